// Package membership knows which nodes live: those that were heard of within the last [Silence]. It must not know
// what nodes do. Start at [Members].
package membership

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Silence is how long a node may be silent and still counts as living.
const Silence = 10 * time.Second

// keep is how long a silent node stays in the store, where an operator may still find it.
const keep = time.Hour

// Members is the cluster's membership in a store. Times are this process's: where several share a store their clocks
// must agree to a second or two. Safe for concurrent use.
type Members struct {
	Store store.Nodes
	Clock func() time.Time
}

// Beat notes that a node lives, or that it leaves, and returns how many live now.
func (m *Members) Beat(ctx context.Context, n *metricsv1.Node, leaving bool) (nodes int, err error) {
	if n.GetName() == "" {
		return 0, status.Error(codes.InvalidArgument, "node.name is empty")
	}
	started := time.Unix(0, 0)
	if t := n.GetStartedAt(); t != nil {
		if !t.IsValid() {
			return 0, status.Error(codes.InvalidArgument, "node.started_at is out of range")
		}
		started = t.AsTime().Truncate(time.Microsecond)
	}
	now := m.Clock()
	name := store.Text(n.GetName())
	if leaving {
		err = m.Store.ForgetNode(ctx, name, started)
	} else {
		err = m.Store.SeeNode(ctx, store.Node{
			Name:      name,
			Roles:     texts(n.GetRoles()),
			Version:   store.Text(n.GetVersion()),
			Address:   store.Text(n.GetAddress()),
			StartedAt: started,
			SeenAt:    now.Truncate(time.Microsecond),
		})
	}
	if err != nil {
		return 0, err
	}
	living, err := m.Store.NodesSince(ctx, now.Add(-Silence))
	return len(living), err
}

// List returns the nodes that live, by name.
func (m *Members) List(ctx context.Context) ([]*metricsv1.Node, error) {
	living, err := m.Store.NodesSince(ctx, m.Clock().Add(-Silence))
	if err != nil {
		return nil, err
	}
	nodes := make([]*metricsv1.Node, len(living))
	for i, n := range living {
		nodes[i] = &metricsv1.Node{
			Name:      n.Name,
			Roles:     n.Roles,
			Version:   n.Version,
			Address:   n.Address,
			StartedAt: timestamppb.New(n.StartedAt),
			SeenAt:    timestamppb.New(n.SeenAt),
		}
	}
	return nodes, nil
}

// Expire forgets nodes that are long gone.
func (m *Members) Expire(ctx context.Context) error {
	_, err := m.Store.DropNodes(ctx, m.Clock().Add(-keep))
	return err
}

func texts(all []string) []string {
	kept := make([]string, len(all))
	for i, s := range all {
		kept[i] = store.Text(s)
	}
	return kept
}
