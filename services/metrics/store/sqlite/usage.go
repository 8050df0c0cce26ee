package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
		principals, tenants := b.Tenants()
		for i := range principals {
			if _, err := tx.ExecContext(ctx, setTenant, principals[i], tenants[i]); err != nil {
				return err
			}
		}
		return upsert(ctx, tx, b.Rows)
	})
	if err != nil {
		return false, fmt.Errorf("add usage: %w", err)
	}
	return added, nil
}

// table is a step's statement of one that names metrics_usage_step.
func table(statement string, step store.Step) string {
	return strings.ReplaceAll(statement, "metrics_usage_step", "metrics_usage_"+step.String())
}

func upsert(ctx context.Context, tx *sql.Tx, rows []store.Row) (err error) {
	var add [store.Steps]*sql.Stmt
	defer func() {
		for _, one := range add {
			if one != nil {
				err = errors.Join(err, one.Close())
			}
		}
	}()
	for step := range store.Steps {
		if add[step], err = tx.PrepareContext(ctx, table(addUsage, step)); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if err := r.Steps(func(step store.Step, start time.Time, bucket int16, calls, errors, micros int64) error {
			_, err := add[step].ExecContext(ctx, start.Unix(), r.Principal, r.Server, r.Method, r.Name, bucket, calls, errors, micros)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// SumUsage implements store.Usage.
func (s *Store) SumUsage(ctx context.Context, q store.UsageQuery, each func(store.Row) error) (err error) {
	limit := -1
	if q.Limit > 0 {
		limit = q.Limit
	}
	rows, err := s.db.QueryContext(ctx, table(sumUsage, q.Step), ceilSeconds(q.Since), ceilSeconds(q.Until),
		q.By.Start, q.By.Principal, q.By.Server, q.By.Method, q.By.Name, q.By.Tenant,
		q.Principal, q.Server, q.Name, q.Tenant, int(q.Order), limit)
	if err != nil {
		return fmt.Errorf("sum usage: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r store.Row
		var start sql.NullInt64
		var bucketsJSON, callsJSON []byte
		var buckets []int16
		var calls []int64
		err := rows.Scan(&start, &r.Principal, &r.Server, &r.Method, &r.Name, &r.Tenant, &r.Calls, &r.Errors, &r.Micros, &bucketsJSON, &callsJSON)
		if err = errors.Join(err, json.Unmarshal(bucketsJSON, &buckets), json.Unmarshal(callsJSON, &calls)); err != nil {
			return fmt.Errorf("sum usage: %w", err)
		}
		if start.Valid {
			r.Start = time.Unix(start.Int64, 0).UTC()
		}
		for i, b := range buckets {
			if b != store.Unknown {
				r.Took = append(r.Took, store.Bucket{Bucket: b, Calls: calls[i]})
			}
		}
		if err := each(r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("sum usage: %w", err)
	}
	return nil
}

// DropUsage implements store.Usage.
func (s *Store) DropUsage(ctx context.Context, step store.Step, before time.Time) error {
	_, err := s.drop(ctx, "drop old usage", table("DELETE FROM metrics_usage_step WHERE start < ?", step), ceilSeconds(before))
	return err
}

// ceilSeconds rounds up: a minute that starts within the second of t started before t.
func ceilSeconds(t time.Time) int64 { return t.Add(time.Second - time.Nanosecond).Unix() }

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
