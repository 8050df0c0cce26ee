package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"erlmcp.dev/services/metrics/store"
)

// AddUsage implements store.Usage.
func (s *Store) AddUsage(ctx context.Context, b store.Batch) (added bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, addBatch, b.Node, int64(b.Sequence), b.At.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
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

func upsert(ctx context.Context, tx *sql.Tx, rows []store.Row) (err error) {
	statement, err := tx.PrepareContext(ctx, addUsage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	for _, r := range rows {
		if _, err := statement.ExecContext(ctx,
			r.Minute.Unix(), r.Principal, r.Server, r.Method, r.Name, r.Calls, r.Errors, r.Micros); err != nil {
			return err
		}
	}
	return nil
}

// SumUsage implements store.Usage.
func (s *Store) SumUsage(ctx context.Context, q store.UsageQuery) ([]store.Row, error) {
	rows, err := s.db.QueryContext(ctx, sumUsage, ceilSeconds(q.Since), ceilSeconds(q.Until),
		q.By.Minute, q.By.Principal, q.By.Server, q.By.Method, q.By.Name, q.Principal, q.Server, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("sum usage: %w", err)
	}
	sums, err := collect(rows, func(r *store.Row) error {
		var minute sql.NullInt64
		err := rows.Scan(&minute, &r.Principal, &r.Server, &r.Method, &r.Name, &r.Calls, &r.Errors, &r.Micros)
		if minute.Valid {
			r.Minute = time.Unix(minute.Int64, 0).UTC()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sum usage: %w", err)
	}
	return sums, nil
}

// ceilSeconds rounds up: a minute that starts within the second of t started before t.
func ceilSeconds(t time.Time) int64 { return t.Add(time.Second - time.Nanosecond).Unix() }

// DropUsage implements store.Usage.
func (s *Store) DropUsage(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop old usage", "DELETE FROM metrics_usage WHERE minute < ?", ceilSeconds(before))
}

// DropBatches implements store.Usage.
func (s *Store) DropBatches(ctx context.Context, before time.Time) (int64, error) {
	return s.drop(ctx, "drop old batches", "DELETE FROM metrics_batches WHERE at < ?", before.UnixMicro())
}

func (s *Store) drop(ctx context.Context, what, statement string, before int64) (int64, error) {
	result, err := s.db.ExecContext(ctx, statement, before)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return result.RowsAffected()
}

// collect reads all rows and closes them.
func collect[T any](rows *sql.Rows, scan func(*T) error) (all []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var one T
		if err := scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
