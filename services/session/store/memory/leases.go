package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
)

type lease struct {
	node  store.Node
	id    string
	until time.Time
}

// Join implements [store.Leases].
func (s *Store) Join(_ context.Context, node store.Node, ttl time.Duration) (store.Lease, error) {
	if err := store.CheckNode(node.Name); err != nil {
		return store.Lease{}, err
	}
	if ttl < time.Millisecond {
		return store.Lease{}, fmt.Errorf("join with a lease of %v: %w", ttl, store.ErrInvalid)
	}
	now := s.lock()
	defer s.mu.Unlock()
	id := uuid.NewString()
	s.leases[node.Name] = &lease{node: node, id: id, until: now.Add(ttl)}
	return store.Lease{Node: node, ID: id, TTL: ttl}, nil
}

// Beat implements [store.Leases].
func (s *Store) Beat(_ context.Context, held store.Lease) error {
	now := s.lock()
	defer s.mu.Unlock()
	l, ok := s.leases[held.Node.Name]
	if !ok || l.id != held.ID {
		return fmt.Errorf("node %s: %w", held.Node.Name, store.ErrLeaseLost)
	}
	l.until = now.Add(held.TTL)
	return nil
}

// Leave implements [store.Leases].
func (s *Store) Leave(_ context.Context, held store.Lease) error {
	s.lock()
	defer s.mu.Unlock()
	if l, ok := s.leases[held.Node.Name]; ok && l.id == held.ID {
		delete(s.leases, held.Node.Name)
	}
	return nil
}

// Nodes implements [store.Leases].
func (s *Store) Nodes(context.Context) ([]store.Node, error) {
	s.lock()
	defer s.mu.Unlock()
	nodes := make([]store.Node, 0, len(s.leases))
	for _, l := range s.leases {
		nodes = append(nodes, l.node)
	}
	slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}
