package limit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"erlmcp.dev/gateway/limit"
	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/testkit"
)

// admitted counts how many of n requests at once may go on.
func admitted(l *limit.Limiter, principal string, n int) (count int) {
	for range n {
		if l.Wait(context.Background(), principal) == 0 {
			count++
		}
	}
	return count
}

func TestOneGatewayCountsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Config{Rate: 10})
		if got := admitted(l, "alice", 50); got != 10 {
			t.Errorf("%d requests at once went on, want a second's worth", got)
		}
		if got := admitted(l, "bob", 50); got != 10 {
			t.Errorf("another principal had %d", got)
		}
		wait := l.Wait(context.Background(), "alice")
		if wait != 100*time.Millisecond {
			t.Errorf("told to wait %v", wait)
		}
		time.Sleep(wait)
		if got := admitted(l, "alice", 5); got != 1 {
			t.Errorf("after the wait %d went on", got)
		}
		time.Sleep(time.Minute)
		if got := admitted(l, "alice", 50); got != 10 {
			t.Errorf("a rest gave %d", got)
		}
	})
}

// run runs a limiter for the test's time.
func run(t *testing.T, l *limit.Limiter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestGatewaysShareACount(t *testing.T) {
	client, err := redisx.New(redisx.Settings{Addresses: []string{testkit.Redis(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	const rate, gateways, last = 500, 3, time.Second
	portion := rate / 50
	var count atomic.Int64
	var waited atomic.Bool
	var tasks sync.WaitGroup
	start := time.Now()
	for range gateways {
		l := limit.New(limit.Config{Rate: rate, Store: limit.Redis{Client: client}})
		run(t, l)
		tasks.Go(func() {
			for time.Since(start) < last {
				if wait := l.Wait(t.Context(), "alice"); wait == 0 {
					count.Add(1)
				} else {
					waited.Store(true)
					time.Sleep(wait) // as the client was told to
				}
			}
		})
	}
	tasks.Wait()
	// A full bucket, what ran into it meanwhile, and what gateways may hold.
	most := rate + int(float64(rate)*time.Since(start).Seconds()) + 2*gateways*portion
	if got := int(count.Load()); got > most || got < rate || !waited.Load() {
		t.Errorf("%d requests went on, want %d to %d", got, rate, most)
	}
}

// gone is a store that can't be reached, or that answers never.
type gone struct{ silent bool }

func (g gone) Take(ctx context.Context, _, _ int, _ []string) ([]limit.Portion, error) {
	if g.silent {
		<-ctx.Done()
	}
	return nil, errors.New("away")
}

func TestWithoutTheStoreEachGatewayGoesOnCounting(t *testing.T) {
	for name, store := range map[string]limit.Store{"away": gone{}, "silent": gone{silent: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limit.New(limit.Config{Rate: 100, Store: store})
				run(t, l)
				var went int
				start := time.Now()
				for time.Since(start) < 2*time.Second {
					wait := l.Wait(t.Context(), "alice")
					if wait == 0 {
						went++
					}
					time.Sleep(max(wait, time.Millisecond))
				}
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
				if went < 150 || went > 310 {
					t.Errorf("%d requests in two seconds", went)
				}
			})
		})
	}
}

func BenchmarkWait(b *testing.B) {
	l := limit.New(limit.Config{Rate: 1e9})
	b.ReportAllocs()
	for b.Loop() {
		l.Wait(context.Background(), "alice")
	}
}
