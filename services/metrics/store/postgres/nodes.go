package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"erlmcp.dev/services/metrics/store"
)

// SeeNode implements store.Nodes.
func (s *Store) SeeNode(ctx context.Context, n store.Node) error {
	roles := n.Roles
	if roles == nil {
		roles = []string{} // nil would be null
	}
	if _, err := s.pool.Exec(ctx, seeNode, n.Name, roles, n.Version, n.Address, n.StartedAt, n.SeenAt); err != nil {
		return fmt.Errorf("keep a node: %w", err)
	}
	return nil
}

// ForgetNode implements store.Nodes.
func (s *Store) ForgetNode(ctx context.Context, name string, startedAt time.Time) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM metrics_nodes WHERE name = $1 AND started_at <= $2", name, startedAt)
	if err != nil {
		return fmt.Errorf("forget a node: %w", err)
	}
	return nil
}

// NodesSince implements store.Nodes.
func (s *Store) NodesSince(ctx context.Context, t time.Time) ([]store.Node, error) {
	rows, err := s.pool.Query(ctx, listNodes, t)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n store.Node, err error) {
		err = row.Scan(&n.Name, &n.Roles, &n.Version, &n.Address, &n.StartedAt, &n.SeenAt)
		n.StartedAt, n.SeenAt = n.StartedAt.UTC(), n.SeenAt.UTC()
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return nodes, nil
}

// DropNodes implements store.Nodes.
func (s *Store) DropNodes(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop nodes that are gone", "DELETE FROM metrics_nodes WHERE seen_at < $1", before)
}
