package usage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/usage"
)

// annals is a metrics service that may be away.
type annals struct {
	mu     sync.Mutex
	away   bool
	events map[string]*metricsv1.SessionEvent
}

func (a *annals) RecordSessionEvents(_ context.Context, req *metricsv1.RecordSessionEventsRequest, _ ...grpc.CallOption) (*metricsv1.RecordSessionEventsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range req.GetEvents() {
		a.events[e.GetId()] = e
	}
	if a.away {
		return nil, errors.New("away")
	}
	return &metricsv1.RecordSessionEventsResponse{}, nil
}

func TestWhatBecameOfSessionsReachesTheServiceThoughItIsAwayAndTheProcessEnds(t *testing.T) {
	service, dir := &annals{away: true, events: map[string]*metricsv1.SessionEvent{}}, t.TempDir()
	life := func(first, events int) {
		t.Helper()
		h, err := usage.NewHistorian(usage.HistorianConfig{Client: service, Node: "erlmcp@a", Dir: dir, Log: testkit.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range events {
			h.Record(&metricsv1.SessionEvent{SessionId: fmt.Sprint(first + i), Kind: metricsv1.SessionEvent_KIND_OPENED})
		}
		cancel()
		start := time.Now()
		if err := errors.Join(h.Run(ctx), h.Close()); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 8*time.Second || h.Dropped() != 0 {
			t.Errorf("it took %v; %d dropped", d, h.Dropped())
		}
	}
	life(0, 2500)
	service.away = false
	clear(service.events)
	life(2500, 1)
	if len(service.events) != 2501 {
		t.Errorf("%d events", len(service.events))
	}
	for _, e := range service.events {
		if e.GetNode() != "erlmcp@a" || e.GetAt() == nil {
			t.Fatalf("%v", e)
		}
	}
}
