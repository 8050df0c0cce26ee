package live_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"erlmcp.dev/services/metrics/live"
	"erlmcp.dev/shared/testkit"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// air is a wire within one process.
type air struct {
	mu        sync.Mutex
	receivers map[int]func([]byte)
	longest   int
}

func (a *air) Broadcast(_ context.Context, payload []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.longest = max(a.longest, len(payload))
	for _, receive := range a.receivers {
		receive(payload)
	}
	return nil
}

func (a *air) Receive(ctx context.Context, receive func([]byte)) error {
	a.mu.Lock()
	id := len(a.receivers)
	a.receivers[id] = receive
	a.mu.Unlock()
	<-ctx.Done()
	a.mu.Lock()
	delete(a.receivers, id)
	a.mu.Unlock()
	return ctx.Err()
}

func (a *air) listening() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.receivers)
}

func event(principal string) *live.Event {
	return &live.Event{Event: &metricsv1.WatchEventsResponse_Usage{Usage: &metricsv1.Usage{Principal: principal}}}
}

func anything(*live.Event) bool { return true }

// What does not fit one payload goes in several, in order; what fits none alone is left out.
func TestOtherReplicasSeeAllThatFitsTheWire(t *testing.T) {
	a := &air{receivers: map[int]func([]byte){}}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	hubs := [2]*live.Hub{live.New(a, testkit.Logger(t)), live.New(a, testkit.Logger(t))}
	for _, h := range hubs {
		running.Go(func() { h.Run(ctx) })
	}
	testkit.Eventually(t, func() bool { return a.listening() == len(hubs) }, 10*time.Second)

	var sent []*live.Event
	for i := range 300 {
		sent = append(sent, event(fmt.Sprint(i, strings.Repeat("x", i))))
	}
	huge := event(strings.Repeat("x", live.MaxPayload))
	published := append([]*live.Event{huge}, sent[:100]...)
	published = append(append(published, huge, huge), sent[100:]...)
	published = append(published, huge)

	got := make(chan *live.Event, len(published))
	standing := make(chan struct{})
	running.Go(func() {
		err := hubs[1].Watch(ctx, anything, func(e *live.Event) error {
			if e.GetEvent() == nil {
				close(standing)
				return nil
			}
			got <- e
			return nil
		})
		if err != nil && !errors.Is(err, live.ErrClosed) {
			t.Error(err)
		}
	})
	<-standing
	hubs[0].Publish(published)
	for i, want := range sent {
		if e := <-got; !proto.Equal(e, want) {
			t.Fatalf("event %d: %.40v", i, e)
		}
	}
	cancel()
	running.Wait()
	if a.longest > live.MaxPayload {
		t.Errorf("a payload of %d bytes", a.longest)
	}
	if len(got) != 0 {
		t.Errorf("and %d more", len(got))
	}
}

// Nothing waits for a watcher; it is told what it missed.
func TestASlowWatcherIsToldWhatItMissed(t *testing.T) {
	h := live.New(nil, testkit.Logger(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const published = 5000
	var seen, missed uint64
	err := h.Watch(ctx, anything, func(e *live.Event) error {
		switch what := e.GetEvent().(type) {
		case nil: // it stands, and is slow
			for i := range published {
				h.Publish([]*live.Event{event(fmt.Sprint(i))})
			}
		case *metricsv1.WatchEventsResponse_Usage:
			seen++
		case *metricsv1.WatchEventsResponse_Missed:
			missed += what.Missed
		}
		if seen+missed == published {
			cancel()
		}
		return nil
	})
	if err != nil || seen == 0 || missed == 0 || seen+missed != published {
		t.Errorf("%d seen, %d missed of %d, %v", seen, missed, published, err)
	}
}

func TestWatchingEndsWithItsReaderAndTheHub(t *testing.T) {
	h := live.New(nil, testkit.Logger(t))
	gone := errors.New("gone")
	if err := h.Watch(t.Context(), anything, func(*live.Event) error { return gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	h.Run(ended)
	if err := h.Watch(t.Context(), anything, func(*live.Event) error { return nil }); !errors.Is(err, live.ErrClosed) {
		t.Error(err)
	}
	h.Publish([]*live.Event{event("nobody")})
}
