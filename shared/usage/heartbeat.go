package usage

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// HeartbeatClient is the part of the metrics service's client that a Heartbeat uses.
type HeartbeatClient interface {
	Heartbeat(context.Context, *metricsv1.HeartbeatRequest, ...grpc.CallOption) (*metricsv1.HeartbeatResponse, error)
}

// HeartbeatConfig is what a Heartbeat needs.
type HeartbeatConfig struct {
	// Client of the metrics service.
	Client HeartbeatClient
	// Node that beats; not changed any more.
	Node *metricsv1.Node
	// Log hears when the service is away, and when it is back; none when nil.
	Log *slog.Logger
}

// Heartbeat tells the metrics service that this node lives. Safe for concurrent use.
type Heartbeat struct {
	client HeartbeatClient
	node   *metricsv1.Node
	log    *slog.Logger
	last   atomic.Pointer[beat]
}

// beat is an answer of the service.
type beat struct {
	at              time.Time
	nodes, expected int
}

const (
	beatInterval = 2 * time.Second
	beatTimeout  = 2 * time.Second
	// silence is how old the service's answer may be: as long as a node may be silent.
	silence = 10 * time.Second
)

// NewHeartbeat makes a Heartbeat; Run beats.
func NewHeartbeat(c HeartbeatConfig) *Heartbeat {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Heartbeat{client: c.Client, node: c.Node, log: c.Log}
}

// Nodes is how many nodes lived when the service last answered, how many there should have been, and whether that is
// fresh enough to be true now.
func (h *Heartbeat) Nodes() (living, expected int, fresh bool) {
	last := h.last.Load()
	if last == nil {
		return 0, 0, false
	}
	return last.nodes, last.expected, time.Since(last.at) <= silence
}

// Run beats until ctx ends, then says that the node leaves.
func (h *Heartbeat) Run(ctx context.Context) error {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	away := false
	for ctx.Err() == nil {
		// One that is under way is not cut off: what the service did of it behind the word that this node leaves would
		// make the node one that is missing.
		err := h.beat(context.WithoutCancel(ctx), false)
		switch {
		case err != nil && !away:
			h.log.Warn("the metrics service does not hear this node", "error", err)
			away = true
		case err == nil && away:
			h.log.Info("the metrics service hears this node again")
			away = false
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if err := h.beat(context.WithoutCancel(ctx), true); err != nil {
		h.log.Warn("could not say that this node leaves; it counts as missing for a quarter of an hour", "error", err)
	}
	return nil
}

func (h *Heartbeat) beat(ctx context.Context, leaving bool) error {
	bounded, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	// Who leaves says so only once; a service that is just starting anew is waited for.
	answer, err := h.client.Heartbeat(bounded, &metricsv1.HeartbeatRequest{Node: h.node, Leaving: leaving}, grpc.WaitForReady(leaving))
	if err != nil {
		return err
	}
	living := int(answer.GetNodes())
	// A service of the release before tells of no missing nodes.
	h.last.Store(&beat{at: time.Now(), nodes: living, expected: max(living, int(answer.GetExpected()))})
	return nil
}
