package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"erlmcp.dev/services/metrics/store"
)

// SeeNode implements store.Nodes.
func (s *Store) SeeNode(ctx context.Context, n store.Node) error {
	roles, err := json.Marshal(n.Roles)
	if err != nil {
		return fmt.Errorf("keep a node: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, seeNode,
		n.Name, string(roles), n.Version, n.Address, n.StartedAt.UnixMicro(), n.SeenAt.UnixMicro()); err != nil {
		return fmt.Errorf("keep a node: %w", err)
	}
	return nil
}

// ForgetNode implements store.Nodes.
func (s *Store) ForgetNode(ctx context.Context, name string, startedAt time.Time) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM metrics_nodes WHERE name = ? AND started_at <= ?", name, startedAt.UnixMicro())
	if err != nil {
		return fmt.Errorf("forget a node: %w", err)
	}
	return nil
}

// NodesSince implements store.Nodes.
func (s *Store) NodesSince(ctx context.Context, t time.Time) ([]store.Node, error) {
	rows, err := s.db.QueryContext(ctx, listNodes, t.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes, err := collect(rows, func(n *store.Node) error {
		var roles []byte
		var started, seen int64
		if err := rows.Scan(&n.Name, &roles, &n.Version, &n.Address, &started, &seen); err != nil {
			return err
		}
		n.StartedAt, n.SeenAt = time.UnixMicro(started).UTC(), time.UnixMicro(seen).UTC()
		return json.Unmarshal(roles, &n.Roles)
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return nodes, nil
}

// DropNodes implements store.Nodes.
func (s *Store) DropNodes(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop nodes that are gone", "DELETE FROM metrics_nodes WHERE seen_at < ?", before.UnixMicro())
}
