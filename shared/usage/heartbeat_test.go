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
	mu    sync.Mutex
	away  bool
	nodes uint32
	// expected is 0 as from a service that does not know.
	expected uint32
	beats    []time.Time
	leaves   []time.Time
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
	return &metricsv1.HeartbeatResponse{Nodes: l.nodes, Expected: l.expected}, nil
}

func (l *listener) set(away bool, nodes, expected uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away, l.nodes, l.expected = away, nodes, expected
}

func TestANodeBeatsAndKnowsHowManyLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{nodes: 3}
		h := usage.NewHeartbeat(usage.HeartbeatConfig{Client: l, Node: &metricsv1.Node{Name: "erlmcp@a"}})
		expect := func(when string, nodes, expected int, fresh bool) {
			t.Helper()
			synctest.Wait()
			if n, e, ok := h.Nodes(); n != nodes || e != expected || ok != fresh {
				t.Errorf("%s: %d of %d, %v", when, n, e, ok)
			}
		}
		expect("before the first beat", 0, 0, false)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		expect("after it", 3, 3, true)

		time.Sleep(9 * time.Second)
		l.set(false, 4, 5)
		time.Sleep(2 * time.Second)
		expect("with a fourth node, and a fifth that is missing", 4, 5, true)
		if n := len(l.beats); n != 6 {
			t.Errorf("%d beats in 11 s", n)
		}

		l.set(true, 0, 0)
		time.Sleep(9 * time.Second)
		expect("while the service is shortly away", 4, 5, true)
		time.Sleep(5 * time.Second)
		expect("while it is away for long", 4, 5, false)

		l.set(false, 2, 2)
		time.Sleep(2 * time.Second)
		expect("when it is back", 2, 2, true)

		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(l.leaves) != 1 {
			t.Errorf("it left %d times", len(l.leaves))
		}
	})
}

// A beat that a slow service does something of only after it heard that the node leaves would bring the node back.
func TestANodeLeavesOnlyOnceItsLastBeatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slow{}
		h := usage.NewHeartbeat(usage.HeartbeatConfig{Client: slow, Node: &metricsv1.Node{Name: "erlmcp@a"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		synctest.Wait() // the first beat is under way
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if slow.left != 1 || slow.overtook {
			t.Errorf("it left %d times, before its beat was done: %v", slow.left, slow.overtook)
		}
	})
}

// slow takes a second for each beat, whether its caller waits or not.
type slow struct {
	mu       sync.Mutex
	beating  bool
	left     int
	overtook bool
}

func (s *slow) Heartbeat(ctx context.Context, req *metricsv1.HeartbeatRequest, _ ...grpc.CallOption) (*metricsv1.HeartbeatResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.GetLeaving() {
		s.left++
		s.overtook = s.overtook || s.beating
		return &metricsv1.HeartbeatResponse{}, nil
	}
	s.beating = true
	done := make(chan struct{})
	time.AfterFunc(time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.beating = false
		close(done)
	})
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-done:
		return &metricsv1.HeartbeatResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
