package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"erlmcp.dev/services/metrics/store"
)

// AddUsage implements store.Usage.
func (s *Store) AddUsage(ctx context.Context, b store.Batch) (added bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, addBatch, b.Node, int64(b.Sequence), b.At)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		added = true
		return upsert(ctx, tx, b.Rows)
	})
	if err != nil {
		return false, fmt.Errorf("add usage: %w", err)
	}
	return added, nil
}

func upsert(ctx context.Context, tx pgx.Tx, rows []store.Row) error {
	n := len(rows)
	minutes := make([]time.Time, n)
	principals, servers, methods, names := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	calls, errors, micros := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		minutes[i] = r.Minute
		principals[i], servers[i], methods[i], names[i] = r.Principal, r.Server, r.Method, r.Name
		calls[i], errors[i], micros[i] = r.Calls, r.Errors, r.Micros
	}
	_, err := tx.Exec(ctx, addUsage, minutes, principals, servers, methods, names, calls, errors, micros)
	return err
}

// SumUsage implements store.Usage.
func (s *Store) SumUsage(ctx context.Context, q store.UsageQuery) ([]store.Row, error) {
	rows, err := s.pool.Query(ctx, sumUsage, q.Since, q.Until,
		q.By.Minute, q.By.Principal, q.By.Server, q.By.Method, q.By.Name, q.Principal, q.Server, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("sum usage: %w", err)
	}
	sums, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r store.Row, err error) {
		var minute *time.Time
		err = row.Scan(&minute, &r.Principal, &r.Server, &r.Method, &r.Name, &r.Calls, &r.Errors, &r.Micros)
		if minute != nil {
			r.Minute = minute.UTC()
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("sum usage: %w", err)
	}
	return sums, nil
}

// DropUsage implements store.Usage.
func (s *Store) DropUsage(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop old usage", "DELETE FROM metrics_usage WHERE minute < $1", before)
}

// DropBatches implements store.Usage.
func (s *Store) DropBatches(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop old batches", "DELETE FROM metrics_batches WHERE at < $1", before)
}

func (s *Store) drop(ctx context.Context, what, sql string, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, sql, before)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return tag.RowsAffected(), nil
}
