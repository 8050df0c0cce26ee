package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"erlmcp.dev/services/metrics/store"
)

// table is a step's statement of one that names metrics_usage_step.
func table(statement string, step store.Step) string {
	return strings.ReplaceAll(statement, "metrics_usage_step", "metrics_usage_"+step.String())
}

// units are what a partition of each step holds.
var units = [store.Steps]string{"day", "month", "year"}

// partition is the start of the partition that a step's t is in.
func partition(step store.Step, t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	switch step {
	case store.Day:
		return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)
	case store.Hour:
		return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	default:
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
}

// place is a partition.
type place struct {
	step  store.Step
	start time.Time
}

// columns are rows of one step, as add_usage.sql takes them.
type columns struct {
	starts                              []time.Time
	principals, servers, methods, names []string
	buckets                             []int16
	calls, errors, micros               []int64
}

// AddUsage implements store.Usage.
func (s *Store) AddUsage(ctx context.Context, b store.Batch) (added bool, err error) {
	var steps [store.Steps]columns
	places := map[place]bool{}
	for _, r := range b.Rows {
		_ = r.Steps(func(step store.Step, start time.Time, bucket int16, calls, errors, micros int64) error {
			c := &steps[step]
			c.starts = append(c.starts, start)
			c.principals, c.servers = append(c.principals, r.Principal), append(c.servers, r.Server)
			c.methods, c.names = append(c.methods, r.Method), append(c.names, r.Name)
			c.buckets, c.calls = append(c.buckets, bucket), append(c.calls, calls)
			c.errors, c.micros = append(c.errors, errors), append(c.micros, micros)
			places[place{step, partition(step, start)}] = true
			return nil
		})
	}
	for again := true; ; again = false {
		added, err = s.addUsage(ctx, b, &steps, places)
		// A partition that is known may have been dropped since, here or by another replica.
		if e := (*pgconn.PgError)(nil); again && errors.As(err, &e) && e.Code == "23514" {
			s.places.Clear()
			continue
		}
		if err != nil {
			return false, fmt.Errorf("add usage: %w", err)
		}
		return added, nil
	}
}

func (s *Store) addUsage(ctx context.Context, b store.Batch, steps *[store.Steps]columns, places map[place]bool) (added bool, err error) {
	for p := range places {
		if _, known := s.places.Load(p); known {
			continue
		}
		// Each in a transaction of its own: it locks the whole table.
		if _, err := s.pool.Exec(ctx, "SELECT metrics_partition($1, $2, $3)", p.step.String(), units[p.step], p.start); err != nil {
			return false, fmt.Errorf("make a partition: %w", err)
		}
		s.places.Store(p, true)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, addBatch, b.Node, int64(b.Sequence), b.At)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		added = true
		if principals, tenants := b.Tenants(); len(principals) > 0 {
			if _, err := tx.Exec(ctx, setTenants, principals, tenants); err != nil {
				return err
			}
		}
		for step := range store.Steps {
			c := &steps[step]
			if _, err := tx.Exec(ctx, table(addUsage, step),
				c.starts, c.principals, c.servers, c.methods, c.names, c.buckets, c.calls, c.errors, c.micros); err != nil {
				return err
			}
		}
		return nil
	})
	return added && err == nil, err
}

// SumUsage implements store.Usage.
func (s *Store) SumUsage(ctx context.Context, q store.UsageQuery, each func(store.Row) error) error {
	var limit *int
	if q.Limit > 0 {
		limit = &q.Limit
	}
	rows, err := s.pool.Query(ctx, table(sumUsage, q.Step), q.Since, q.Until,
		q.By.Start, q.By.Principal, q.By.Server, q.By.Method, q.By.Name, q.By.Tenant,
		q.Principal, q.Server, q.Name, q.Tenant, int(q.Order), limit)
	if err != nil {
		return fmt.Errorf("sum usage: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r store.Row
		var start *time.Time
		var buckets []int16
		var calls []int64
		if err := rows.Scan(&start, &r.Principal, &r.Server, &r.Method, &r.Name, &r.Tenant, &r.Calls, &r.Errors, &r.Micros, &buckets, &calls); err != nil {
			return fmt.Errorf("sum usage: %w", err)
		}
		if start != nil {
			r.Start = start.UTC()
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

// DropUsage implements store.Usage. Partitions that are wholly old go at once; of the next the old rows.
func (s *Store) DropUsage(ctx context.Context, step store.Step, before time.Time) error {
	rows, err := s.pool.Query(ctx, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass", table("metrics_usage_step", step))
	if err != nil {
		return fmt.Errorf("list partitions of usage: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list partitions of usage: %w", err)
	}
	for _, name := range names {
		start, err := time.Parse("20060102", name[strings.LastIndexByte(name, '_')+1:])
		if err != nil || !start.Before(partition(step, before)) {
			continue
		}
		if _, err := s.pool.Exec(ctx, "DROP TABLE IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
			return fmt.Errorf("drop a partition of usage: %w", err)
		}
		s.places.Delete(place{step, start})
	}
	_, err = s.drop(ctx, "drop old usage", table("DELETE FROM metrics_usage_step WHERE start < $1", step), before)
	return err
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
