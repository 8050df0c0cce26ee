package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
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
func (s *Store) Receive(ctx context.Context, receive func(payload []byte)) (err error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen to Postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen to Postgres: %w", err)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen to Postgres: %w", err)
		}
		if payload, err := base64.StdEncoding.DecodeString(n.Payload); err == nil {
			receive(payload)
		}
	}
}
