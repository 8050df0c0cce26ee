package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"erlmcp.dev/services/metrics/store"
)

// AddEvents implements store.Audit.
func (s *Store) AddEvents(ctx context.Context, events []store.Event) error {
	err := s.write(ctx, func(tx *sql.Tx) (err error) {
		statement, err := tx.PrepareContext(ctx, addEvents)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, statement.Close()) }()
		for _, e := range events {
			if _, err := statement.ExecContext(ctx,
				e.ID, e.At.UnixMicro(), e.Node, e.Principal, e.Method, e.Object, e.Outcome); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add audit events: %w", err)
	}
	return nil
}

// Events implements store.Audit.
func (s *Store) Events(ctx context.Context, before string, limit int) ([]store.Event, error) {
	at, id := int64(math.MaxInt64), ""
	if before != "" {
		err := s.db.QueryRowContext(ctx, "SELECT at, id FROM metrics_audit WHERE id = ?", before).Scan(&at, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, store.ErrNoEvent
		}
		if err != nil {
			return nil, fmt.Errorf("find an audit event: %w", err)
		}
	}
	rows, err := s.db.QueryContext(ctx, listEvents, at, id, limit)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	events, err := collect(rows, func(e *store.Event) error {
		var at int64
		err := rows.Scan(&e.ID, &at, &e.Node, &e.Principal, &e.Method, &e.Object, &e.Outcome)
		e.At = time.UnixMicro(at).UTC()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	return events, nil
}

// DropEvents implements store.Audit.
func (s *Store) DropEvents(ctx context.Context, before time.Time) error {
	_, err := s.drop(ctx, "drop old audit events", "DELETE FROM metrics_audit WHERE at < ?", before.UnixMicro())
	return err
}
