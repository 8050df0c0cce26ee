package postgres

import (
	"context"
	"encoding/base64"
	"fmt"

	"erlmcp.dev/shared/database"
)

// channel is that of Postgres' notifications by which replicas tell each other what they take.
const channel = "erlmcp_metrics"

// Broadcast implements live.Wire.
func (s *Store) Broadcast(ctx context.Context, payload []byte) error {
	if _, err := s.pool.Exec(ctx, "SELECT pg_notify($1, $2)", channel, base64.StdEncoding.EncodeToString(payload)); err != nil {
		return fmt.Errorf("notify Postgres' listeners: %w", err)
	}
	return nil
}

// Receive implements live.Wire. It has a connection of its own, beside the pool's.
func (s *Store) Receive(ctx context.Context, receive func(payload []byte)) error {
	return database.Listen(ctx, s.pool, channel, func() {}, func(text string) {
		if payload, err := base64.StdEncoding.DecodeString(text); err == nil {
			receive(payload)
		}
	})
}
