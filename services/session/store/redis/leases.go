package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	client "github.com/redis/go-redis/v9"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/redisx"
)

// Join implements [store.Leases].
func (s *Store) Join(ctx context.Context, node store.Node, ttl time.Duration) (store.Lease, error) {
	if err := store.CheckNode(node.Name); err != nil {
		return store.Lease{}, err
	}
	if ttl < time.Millisecond {
		return store.Lease{}, fmt.Errorf("join with a lease of %v: %w", ttl, store.ErrInvalid)
	}
	lease := store.Lease{Node: node, ID: uuid.NewString(), TTL: ttl}
	if err := s.lease(ctx, joinScript, lease, lease.ID, node.Address, ttl.Milliseconds()); err != nil {
		return store.Lease{}, fmt.Errorf("node %s joins: %w", node.Name, err)
	}
	return lease, nil
}

// Beat implements [store.Leases].
func (s *Store) Beat(ctx context.Context, lease store.Lease) error {
	if err := s.lease(ctx, beatScript, lease, lease.ID, lease.TTL.Milliseconds()); err != nil {
		return fmt.Errorf("node %s renews its lease: %w", lease.Node.Name, err)
	}
	return nil
}

// Leave implements [store.Leases].
func (s *Store) Leave(ctx context.Context, lease store.Lease) error {
	if err := s.lease(ctx, leaveScript, lease, lease.ID); err != nil {
		return fmt.Errorf("node %s leaves: %w", lease.Node.Name, err)
	}
	return nil
}

// lease runs a script about a lease.
func (s *Store) lease(ctx context.Context, script *redisx.Script, lease store.Lease, args ...any) error {
	keys := []string{s.leaseKey(lease.Node.Name), s.nodesKey()}
	_, err := s.run(ctx, script, keys, append([]any{lease.Node.Name}, args...)...)
	return err
}

// Nodes implements [store.Leases].
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	value, err := nodesScript.Run(ctx, s.client, []string{s.nodesKey()})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	names := texts(value)
	leases, err := s.addresses(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := make([]store.Node, 0, len(names))
	for _, name := range names {
		if address, alive := leases[name]; alive {
			nodes = append(nodes, store.Node{Name: name, Address: address})
		}
	}
	slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}

// addresses are those of the named nodes that live.
func (s *Store) addresses(ctx context.Context, names []string) (map[string]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = s.leaseKey(name)
	}
	values, err := s.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	alive := make(map[string]string, len(names))
	for i, value := range values {
		if lease, ok := value.(string); ok {
			_, alive[names[i]], _ = strings.Cut(lease, "\n")
		}
	}
	return alive, nil
}

// owned fills in what the node's lease says of a session's owner.
func (s *Store) owned(ctx context.Context, owner store.Owner) (store.Owner, error) {
	lease, err := s.client.Get(ctx, s.leaseKey(owner.Node)).Result()
	switch {
	case errors.Is(err, client.Nil):
		return owner, nil
	case err != nil:
		return owner, fmt.Errorf("read the lease of node %s: %w", owner.Node, err)
	}
	owner.Lease, owner.Address, _ = strings.Cut(lease, "\n")
	owner.Alive = true
	return owner, nil
}

// texts is a script's list of strings.
func texts(value any) []string {
	list, _ := value.([]any)
	found := make([]string, 0, len(list))
	for _, element := range list {
		if text, ok := element.(string); ok {
			found = append(found, text)
		}
	}
	return found
}
