// Package lead lets one of several processes act, by a lease in their common store. It must not know what the leader
// does. Start at [Run].
package lead

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"erlmcp.dev/services/registry/store"
)

// Config is what Run needs.
type Config struct {
	Lease store.Lease
	// Holder is unique to this process. One that starts again under its old name has the lease at once.
	Holder string
	// TTL of the lease; 10 s when 0. A leader that dies or freezes is replaced after that.
	TTL time.Duration
	Log *slog.Logger
}

// Run calls act whenever this process becomes the leader, until ctx ends. The context that act gets ends when it is
// the leader no longer; act must return then, and at no other time. For a moment after a leader froze there may be
// two; what they write must bear that.
func Run(ctx context.Context, c Config, act func(ctx context.Context)) {
	if c.TTL <= 0 {
		c.TTL = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	t := &term{Config: c, act: act}
	defer t.giveUp(ctx)
	tick := time.NewTicker(c.TTL / 3)
	defer tick.Stop()
	for {
		t.renew(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// term is the time that this process leads, if it does.
type term struct {
	Config
	act   func(context.Context)
	until time.Time // when the lease ends at the earliest, by our clock
	end   func()    // ends act and waits for it; nil while another leads
}

// renew asks for the lease, and starts or ends acting by the answer.
func (t *term) renew(ctx context.Context) {
	asked := time.Now()
	bounded, cancel := context.WithTimeout(ctx, t.TTL/3)
	defer cancel()
	held, err := t.Lease.HoldLease(bounded, t.Holder, t.TTL)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		t.Log.Warn("could not renew the lease of the registry's leader; tried again", "error", err)
		if t.end != nil && !time.Now().Add(t.TTL/3).Before(t.until) { // the next try may come too late
			t.stop("the lease runs out")
		}
	case held:
		t.until = asked.Add(t.TTL)
		if t.end == nil {
			t.start(ctx)
		}
	case t.end != nil:
		t.stop("another process has the lease")
	}
}

func (t *term) start(ctx context.Context) {
	t.Log.Info("this process discovers and probes servers now")
	acting, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { t.act(acting) })
	t.end = func() {
		cancel()
		wg.Wait()
	}
}

func (t *term) stop(why string) {
	t.end()
	t.end = nil
	t.Log.Info("this process does not discover and probe servers any more", "why", why)
}

// giveUp ends the term and lets the next process begin its own at once.
func (t *term) giveUp(ctx context.Context) {
	if t.end == nil {
		return
	}
	t.stop("it stops")
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := t.Lease.DropLease(bounded, t.Holder); err != nil {
		t.Log.Warn("could not give up the lease of the registry's leader; it runs out by itself", "error", err)
	}
}
