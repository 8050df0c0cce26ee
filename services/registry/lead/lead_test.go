package lead_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/services/registry/lead"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lease is one that a test can break and give away.
type lease struct {
	mu      sync.Mutex
	holder  string
	expires time.Time
	broken  bool
}

func (l *lease) HoldLease(_ context.Context, holder string, ttl time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return false, errors.New("broken")
	}
	if l.holder != holder && time.Now().Before(l.expires) {
		return false, nil
	}
	l.holder, l.expires = holder, time.Now().Add(ttl)
	return true, nil
}

func (l *lease) DropLease(_ context.Context, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == holder {
		l.expires = time.Time{}
	}
	return nil
}

func (l *lease) set(holder string, expires time.Time, broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder, l.expires, l.broken = holder, expires, broken
}

// process is one that wants to lead.
type process struct {
	mu      sync.Mutex
	leading bool
	terms   int
	cancel  context.CancelFunc
	done    chan struct{}
}

func begin(l *lease, holder string) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		lead.Run(ctx, lead.Config{Lease: l, Holder: holder, TTL: 9 * time.Second}, func(ctx context.Context) {
			p.set(true)
			<-ctx.Done()
			p.set(false)
		})
	}()
	return p
}

func (p *process) set(leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leading = leading
	if leading {
		p.terms++
	}
}

func (p *process) leads() bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leading
}

func (p *process) stop() {
	p.cancel()
	<-p.done
}

func TestOneLeadsAndTheNextTakesOverAtOnceWhenItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{}
		one := begin(l, "one")
		if !one.leads() {
			t.Error("the first does not lead")
		}
		two := begin(l, "two")
		time.Sleep(time.Hour)
		if !one.leads() || two.leads() || one.terms != 1 {
			t.Errorf("one leads %v (%d terms), two %v", one.leads(), one.terms, two.leads())
		}
		one.stop()
		if one.leads() {
			t.Error("it leads although it stopped")
		}
		time.Sleep(3 * time.Second)
		if !two.leads() {
			t.Error("the second waits for the lease to run out")
		}
		two.stop()
	})
}

func TestALeaderThatCannotRenewStopsBeforeTheLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{}
		one := begin(l, "one")
		one.leads()
		l.set("one", l.expires, true)
		time.Sleep(3500 * time.Millisecond)
		if !one.leads() {
			t.Error("it gives up after one failure")
		}
		time.Sleep(5 * time.Second) // 8.5 s of 9
		if one.leads() {
			t.Error("it leads although its lease is about to end")
		}
		l.set("", time.Time{}, false)
		time.Sleep(4 * time.Second)
		if !one.leads() || one.terms != 2 {
			t.Error("it does not lead again")
		}
		one.stop()
	})
}

func TestALeaderWhoseLeaseIsTakenStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{}
		one := begin(l, "one")
		one.leads()
		l.set("two", time.Now().Add(time.Hour), false)
		time.Sleep(4 * time.Second)
		if one.leads() {
			t.Error("two lead")
		}
		one.stop()
		if l.holder != "two" || l.expires.IsZero() {
			t.Error("it dropped the other's lease")
		}
	})
}
