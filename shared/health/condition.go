package health

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Condition is something that should hold while the process runs.
type Condition struct {
	// Name as answers show it, such as "redis".
	Name string
	// Check returns nil where the condition holds. It must heed ctx, which ends after the Checker's timeout.
	Check func(ctx context.Context) error
	// Critical: once it did not hold for Patience the process is unhealthy (503). Until then, and where it is not
	// critical, it is degraded. A probe that restarts what is unhealthy makes little better where the fault is
	// elsewhere; so be sparing with the one and generous with the other.
	Critical bool
	Patience time.Duration
	// Ready: without it the process should get no requests.
	Ready bool
}

// Reason is an error with a text that may be shown to anyone who can reach the health port.
type Reason string

// Error implements error.
func (r Reason) Error() string { return string(r) }

const (
	notChecked Reason = "not checked yet"
	timedOut   Reason = "no answer in time"
	failed     Reason = "failed; the log says why"
)

// public is what may be said of err: its Reason if there is one within.
func public(err error) Reason {
	var r Reason
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut
	}
	return failed
}

// outcome is what the last check found. The zero value is: nothing yet.
type outcome struct {
	at      time.Time // when the check ended
	took    time.Duration
	problem Reason // empty where the condition holds
	first   bool   // nothing was checked before
	// held is when the condition was last seen to hold, or was set up; while there is no problem it says nothing.
	held time.Time
}

// watched is a condition with its last outcome.
type watched struct {
	Condition
	made time.Time

	mu   sync.Mutex
	last outcome
}

func (w *watched) set(o outcome) (before outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before = w.last
	o.first = before.at.IsZero()
	switch {
	case o.first:
		o.held = w.made
	case before.problem == "":
		o.held = before.at
	default:
		o.held = before.held
	}
	w.last = o
	return before
}

// outcome returns the last one, unless it is older than that: then the check hangs, which is an answer too.
func (w *watched) outcome(now time.Time, oldest time.Duration) outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.last
	switch {
	case o.at.IsZero():
		o.problem, o.held = notChecked, w.made
	case now.Sub(o.at) > oldest:
		if o.problem == "" {
			o.held = o.at
		}
		o.problem = timedOut
	}
	return o
}
