package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"erlmcp.dev/services/metrics/store"
)

// AddEvents implements store.Audit.
func (s *Store) AddEvents(ctx context.Context, events []store.Event) error {
	n := len(events)
	ids, at := make([]string, n), make([]time.Time, n)
	nodes, principals, methods := make([]string, n), make([]string, n), make([]string, n)
	objects, outcomes := make([]string, n), make([]string, n)
	for i, e := range events {
		ids[i], at[i] = e.ID, e.At
		nodes[i], principals[i], methods[i], objects[i], outcomes[i] = e.Node, e.Principal, e.Method, e.Object, e.Outcome
	}
	if _, err := s.pool.Exec(ctx, addEvents, ids, at, nodes, principals, methods, objects, outcomes); err != nil {
		return fmt.Errorf("add audit events: %w", err)
	}
	return nil
}

// Events implements store.Audit.
func (s *Store) Events(ctx context.Context, before string, limit int) ([]store.Event, error) {
	var at *time.Time
	var id *string
	if before != "" {
		err := s.pool.QueryRow(ctx, "SELECT at, id::text FROM metrics_audit WHERE id = $1::text::uuid", before).Scan(&at, &id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, store.ErrNoEvent
		}
		if err != nil {
			return nil, fmt.Errorf("find an audit event: %w", err)
		}
	}
	rows, err := s.pool.Query(ctx, listEvents, at, id, limit)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e store.Event, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Node, &e.Principal, &e.Method, &e.Object, &e.Outcome)
		e.At = e.At.UTC()
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	return events, nil
}

// DropEvents implements store.Audit.
func (s *Store) DropEvents(ctx context.Context, before time.Time) error {
	_, err := s.drop(ctx, "drop old audit events", "DELETE FROM metrics_audit WHERE at < $1", before)
	return err
}
