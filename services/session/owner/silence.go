package owner

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errSilent: the store did not answer lately, and was not asked again.
var errSilent = errors.New("the session store does not answer")

// write writes what can be done without. Clients wait for such a write, so a store that fell silent is waited for once:
// then all go without, until the beat hears of it again.
func (o *Owner) write(ctx context.Context, do func(ctx context.Context) error) error {
	if o.silent.Load() {
		return errSilent
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	wait := newPatience(giveUp)
	err := do(ctx)
	if ended := wait.stop(); ended && err != nil {
		o.silent.Store(true)
	}
	return err
}

// How long a write is waited for. The sum is a little less than the store's client has for one try, behind which it tries
// again.
const (
	patienceSteps = 4
	patienceStep  = 475 * time.Millisecond
)

// patience ends after some steps. Of a process that was frozen meanwhile only one has passed: it must not take the store
// for silent, which may know of another owner by now.
type patience struct {
	end func()

	mu    sync.Mutex
	steps int // that are left
	timer *time.Timer
}

func newPatience(end func()) *patience {
	p := &patience{end: end, steps: patienceSteps}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(patienceStep, p.step)
	return p
}

func (p *patience) step() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps--; p.steps > 0 {
		p.timer.Reset(patienceStep)
		return
	}
	p.end()
}

// stop reports whether it had ended.
func (p *patience) stop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	return p.steps <= 0
}
