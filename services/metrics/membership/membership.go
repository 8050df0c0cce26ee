// Package membership knows which nodes live, those that were heard of within the last [Silence], and which are missing.
// It must not know what nodes do. Start at [Members].
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

// Waited is for how long a node is missing that fell silent and had not said that it leaves. It is long enough for an
// alert, and bounded because nobody says of a node that died whether another one, of whatever name, took its place.
const Waited = 15 * time.Minute

// keep is how long a silent node stays in the store, where an operator may still find it.
const keep = time.Hour

// Members is the cluster's membership in a store. Times are this process's: where several share a store their clocks
// must agree to a second or two. Safe for concurrent use.
type Members struct {
	Store store.Nodes
	Clock func() time.Time
	// Least is how many nodes there should be at least; 0 for as many as are known.
	Least int
}

// Count is how many nodes there are.
type Count struct {
	Living int
	// Expected are those that live or are missing, and at least [Members.Least].
	Expected int
}

// Beat notes that a node lives, or that it leaves, and returns how many there are now.
func (m *Members) Beat(ctx context.Context, n *metricsv1.Node, leaving bool) (Count, error) {
	if n.GetName() == "" {
		return Count{}, status.Error(codes.InvalidArgument, "node.name is empty")
	}
	started := time.Unix(0, 0)
	if t := n.GetStartedAt(); t != nil {
		if !t.IsValid() {
			return Count{}, status.Error(codes.InvalidArgument, "node.started_at is out of range")
		}
		started = t.AsTime().Truncate(time.Microsecond)
	}
	now := m.Clock()
	name := store.Text(n.GetName())
	var err error
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
		return Count{}, err
	}
	living, missing, err := m.known(ctx, now)
	if err != nil {
		return Count{}, err
	}
	return Count{Living: len(living), Expected: max(len(living)+len(missing), m.Least)}, nil
}

// List returns the nodes that live and those that are missing, each by name.
func (m *Members) List(ctx context.Context) (living, missing []*metricsv1.Node, err error) {
	alive, gone, err := m.known(ctx, m.Clock())
	return messages(alive), messages(gone), err
}

// known tells the nodes that live from those that are missing.
func (m *Members) known(ctx context.Context, now time.Time) (living, missing []store.Node, err error) {
	nodes, err := m.Store.NodesSince(ctx, now.Add(-Waited))
	if err != nil {
		return nil, nil, err
	}
	for _, n := range nodes {
		if n.SeenAt.Before(now.Add(-Silence)) {
			missing = append(missing, n)
		} else {
			living = append(living, n)
		}
	}
	return living, missing, nil
}

func messages(nodes []store.Node) []*metricsv1.Node {
	all := make([]*metricsv1.Node, len(nodes))
	for i, n := range nodes {
		all[i] = &metricsv1.Node{
			Name:      n.Name,
			Roles:     n.Roles,
			Version:   n.Version,
			Address:   n.Address,
			StartedAt: timestamppb.New(n.StartedAt),
			SeenAt:    timestamppb.New(n.SeenAt),
		}
	}
	return all
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
