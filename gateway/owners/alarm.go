package owners

import (
	"sync"
	"time"
)

// alarm calls ring when again was not called for some time. Time in which this very process was frozen does not count,
// for what came meanwhile is still to be read: so it looks twice, and looks once more when it looks late.
type alarm struct {
	after time.Duration
	ring  func()

	mu    sync.Mutex
	timer *time.Timer
	due   time.Time
	last  bool // the next look is the second
}

func newAlarm(after time.Duration, ring func()) *alarm {
	a := &alarm{after: after, ring: ring}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(after, a.look)
	a.due = time.Now().Add(after)
	return a
}

// again begins the time anew.
func (a *alarm) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = false
	a.wait(a.after)
}

// wait sets the time of the next look; mu is held.
func (a *alarm) wait(d time.Duration) {
	a.due = time.Now().Add(d)
	a.timer.Reset(d)
}

func (a *alarm) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	late := time.Since(a.due)
	switch {
	case late < 0: // again was called at this very moment
	case a.last && late < a.after/20:
		go a.ring()
	default:
		a.last = true
		a.wait(a.after / 10)
	}
}

func (a *alarm) stop() { a.timer.Stop() }
