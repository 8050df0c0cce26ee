package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"erlmcp.dev/services/metrics/store"
)

// AddSessionEvents implements store.Sessions.
func (s *Store) AddSessionEvents(ctx context.Context, events []store.SessionEvent) error {
	n := len(events)
	ids, at, kinds := make([]string, n), make([]time.Time, n), make([]int16, n)
	nodes, sessions, principals, reasons := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, e := range events {
		ids[i], at[i], kinds[i] = e.ID, e.At, e.Kind
		nodes[i], sessions[i], principals[i], reasons[i] = e.Node, e.Session, e.Principal, e.Reason
	}
	if _, err := s.pool.Exec(ctx, addSessionEvents, ids, at, nodes, sessions, principals, kinds, reasons); err != nil {
		return fmt.Errorf("add sessions' events: %w", err)
	}
	return nil
}

// SessionEvents implements store.Sessions.
func (s *Store) SessionEvents(ctx context.Context, q store.SessionQuery) ([]store.SessionEvent, error) {
	rows, err := s.pool.Query(ctx, listSessionEvents, q.Since, q.Until, q.Principal, q.Session, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("list sessions' events: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e store.SessionEvent, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Node, &e.Session, &e.Principal, &e.Kind, &e.Reason)
		e.At = e.At.UTC()
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions' events: %w", err)
	}
	return events, nil
}

// DropSessionEvents implements store.Sessions.
func (s *Store) DropSessionEvents(ctx context.Context, before time.Time) error {
	_, err := s.drop(ctx, "drop old sessions' events", "DELETE FROM metrics_sessions WHERE at < $1", before)
	return err
}
