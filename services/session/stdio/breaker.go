package stdio

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// A program that ends soon after its start, again and again, is not started at every call: after some such deaths in a
// row it rests, longer with each further one. Then one start is a trial, which others wait for.

const (
	// quickDeath: a program that ends by itself sooner died early, whatever it did before.
	quickDeath = 10 * time.Second
	// maxDeaths is how many early deaths in a row make a program rest.
	maxDeaths        = 3
	minRest, maxRest = time.Second, time.Minute
	// maxFailing bounds what is remembered; the one that rested first is forgotten.
	maxFailing = 1000
)

// RestError: a program ended too often soon after its start, and is not started for a while.
type RestError struct {
	Deaths int
	// Next is how long until it may be started again; 0 while another start is a trial.
	Next time.Duration
	// Words are the last lines of its standard error.
	Words string
}

// Error implements error.
func (e *RestError) Error() string {
	next := "it is being tried again now"
	if e.Next > 0 {
		next = fmt.Sprintf("it is started again in %s at the earliest", max(e.Next.Round(time.Second), time.Second))
	}
	return fmt.Sprintf("the program ended %d times in a row soon after its start; %s", e.Deaths, next)
}

// runs names what a breaker counts together. A principal whose calls end a program must not take it from others.
type runs struct{ principal, server string }

type breaker struct {
	mu      sync.Mutex
	failing map[runs]*failing
}

// failing is a program that died early when it ran last.
type failing struct {
	program *registryv1.StdioEndpoint
	deaths  int
	rested  time.Time // when it began to rest
	until   time.Time
	trial   bool // one was started since, and is not known to be well yet
	words   string
}

// admit is nil where a program may be started, and else a *RestError. trial says that others wait for what becomes
// of it.
func (b *breaker) admit(of runs, program *registryv1.StdioEndpoint) (trial bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.failing[of]
	if f == nil {
		return false, nil
	}
	if !proto.Equal(f.program, program) { // declared anew
		delete(b.failing, of)
		return false, nil
	}
	rest := time.Until(f.until)
	switch {
	case f.deaths < maxDeaths, f.rested.IsZero():
		return false, nil
	case rest > 0:
		return false, &RestError{f.deaths, rest, f.words}
	case f.trial:
		return false, &RestError{f.deaths, 0, f.words}
	}
	f.trial = true
	return true, nil
}

// tried ends a trial without a death.
func (b *breaker) tried(of runs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.failing[of]; f != nil && f.trial {
		f.trial = false
		f.rested = time.Time{} // the next early death makes it rest again
	}
}

// lived: a program was well until its client or its age ended it.
func (b *breaker) lived(of runs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failing, of)
}

// died: a program that was started then ended early.
func (b *breaker) died(of runs, program *registryv1.StdioEndpoint, started time.Time, words string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.failing[of]
	if f == nil || !proto.Equal(f.program, program) {
		if b.failing == nil {
			b.failing = map[runs]*failing{}
		}
		if len(b.failing) >= maxFailing {
			b.forgetOne()
		}
		f = &failing{program: program}
		b.failing[of] = f
	}
	if started.Before(f.rested) {
		return // of many that ran together one counts
	}
	f.trial = false
	f.words = words
	if f.deaths++; f.deaths < maxDeaths {
		return
	}
	rest := maxRest
	if doublings := f.deaths - maxDeaths; doublings < 6 {
		rest = min(minRest<<doublings, maxRest)
	}
	f.rested = time.Now()
	f.until = f.rested.Add(rest)
}

// forgetOne makes room; mu is held.
func (b *breaker) forgetOne() {
	var oldest runs
	var first *failing
	for of, f := range b.failing {
		if first == nil || f.rested.Before(first.rested) {
			oldest, first = of, f
		}
	}
	delete(b.failing, oldest)
}

// resting is how often in a row each server's program died that rests now for someone.
func (b *breaker) resting() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var resting map[string]int
	for of, f := range b.failing {
		if f.deaths < maxDeaths {
			continue
		}
		if resting == nil {
			resting = map[string]int{}
		}
		resting[of.server] = max(resting[of.server], f.deaths)
	}
	return resting
}
