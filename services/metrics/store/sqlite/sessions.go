package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"erlmcp.dev/services/metrics/store"
)

// AddSessionEvents implements store.Sessions.
func (s *Store) AddSessionEvents(ctx context.Context, events []store.SessionEvent) error {
	err := s.write(ctx, func(tx *sql.Tx) (err error) {
		statement, err := tx.PrepareContext(ctx, addSessionEvents)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, statement.Close()) }()
		for _, e := range events {
			if _, err := statement.ExecContext(ctx, e.ID, e.At.UnixMicro(), e.Node, e.Session, e.Principal, e.Kind, e.Reason); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add sessions' events: %w", err)
	}
	return nil
}

// SessionEvents implements store.Sessions.
func (s *Store) SessionEvents(ctx context.Context, q store.SessionQuery) ([]store.SessionEvent, error) {
	rows, err := s.db.QueryContext(ctx, listSessionEvents, q.Since.UnixMicro(), q.Until.UnixMicro(), q.Principal, q.Session, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("list sessions' events: %w", err)
	}
	events, err := collect(rows, func(e *store.SessionEvent) error {
		var at int64
		err := rows.Scan(&e.ID, &at, &e.Node, &e.Session, &e.Principal, &e.Kind, &e.Reason)
		e.At = time.UnixMicro(at).UTC()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions' events: %w", err)
	}
	return events, nil
}

// DropSessionEvents implements store.Sessions.
func (s *Store) DropSessionEvents(ctx context.Context, before time.Time) error {
	_, err := s.drop(ctx, "drop old sessions' events", "DELETE FROM metrics_sessions WHERE at < ?", before.UnixMicro())
	return err
}
