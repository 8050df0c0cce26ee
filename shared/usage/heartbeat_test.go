package usage_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/usage"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// listener hears heartbeats.
type listener struct {
	mu     sync.Mutex
	away   bool
	nodes  uint32
	beats  []time.Time
	leaves []time.Time
}

func (l *listener) Heartbeat(ctx context.Context, req *metricsv1.HeartbeatRequest, _ ...grpc.CallOption) (*metricsv1.HeartbeatResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away || ctx.Err() != nil || req.GetNode().GetName() != "erlmcp@a" {
		return nil, status.Error(codes.Unavailable, "away")
	}
	if req.GetLeaving() {
		l.leaves = append(l.leaves, time.Now())
	} else {
		l.beats = append(l.beats, time.Now())
	}
	return &metricsv1.HeartbeatResponse{Nodes: l.nodes}, nil
}

func (l *listener) set(away bool, nodes uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away, l.nodes = away, nodes
}

func TestANodeBeatsAndKnowsHowManyLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{nodes: 3}
		h := usage.NewHeartbeat(usage.HeartbeatConfig{Client: l, Node: &metricsv1.Node{Name: "erlmcp@a"}})
		expect := func(when string, nodes int, fresh bool) {
			t.Helper()
			synctest.Wait()
			if n, ok := h.Nodes(); n != nodes || ok != fresh {
				t.Errorf("%s: %d, %v", when, n, ok)
			}
		}
		expect("before the first beat", 0, false)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		expect("after it", 3, true)

		time.Sleep(9 * time.Second)
		l.set(false, 4)
		time.Sleep(2 * time.Second)
		expect("with a fourth node", 4, true)
		if n := len(l.beats); n != 6 {
			t.Errorf("%d beats in 11 s", n)
		}

		l.set(true, 0)
		time.Sleep(9 * time.Second)
		expect("while the service is shortly away", 4, true)
		time.Sleep(5 * time.Second)
		expect("while it is away for long", 4, false)

		l.set(false, 2)
		time.Sleep(2 * time.Second)
		expect("when it is back", 2, true)

		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(l.leaves) != 1 {
			t.Errorf("it left %d times", len(l.leaves))
		}
	})
}

func TestANodeStopsWhenNobodyHearsThatItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := usage.NewHeartbeat(usage.HeartbeatConfig{Client: &deaf{}, Node: &metricsv1.Node{Name: "erlmcp@a"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		time.Sleep(3 * time.Second)
		cancel()
		start := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

type deaf struct{}

func (*deaf) Heartbeat(ctx context.Context, _ *metricsv1.HeartbeatRequest, _ ...grpc.CallOption) (*metricsv1.HeartbeatResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
