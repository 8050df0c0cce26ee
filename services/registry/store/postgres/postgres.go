// Package postgres is a [store.Store] in PostgreSQL, for clusters. It may share its database with others: its tables
// begin with registry_. Start at [Open].
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"erlmcp.dev/services/registry/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options change what Open makes; the zero value is what production uses.
type Options struct {
	// KeepRemovals is for how many versions removals are remembered; 10,000 when 0. Who is further behind gets a
	// snapshot.
	KeepRemovals int
}

// Store is a database behind a pool of connections.
type Store struct {
	reader
	pool *pgxpool.Pool
	keep int64
}

var _ store.Store = (*Store)(nil)

// Open connects to the database of a DSN (URL or keywords; pool_max_conns bounds the pool) and brings its tables up
// to date. Replicas that start together wait for each other.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres connection string: %w", err)
	}
	// Connections that a restart of Postgres broke are noticed before they are used, so that no change fails by them: what
	// was sent on one could not be repeated. The registry asks little enough to afford the round trip.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := migrate(ctx, pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("bring the registry's tables in Postgres up to date: %w", err)
	}
	if o.KeepRemovals <= 0 {
		o.KeepRemovals = 10_000
	}
	return &Store{reader: reader{pool}, pool: pool, keep: int64(o.KeepRemovals)}, nil
}

func migrate(ctx context.Context, pool *pgxpool.Pool) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60)) // each second, for a minute
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }() // the pool stays open
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("registry_goose_version"), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping Postgres: %w", err)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// HoldLease implements store.Lease.
func (s *Store) HoldLease(ctx context.Context, holder string, ttl time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, holdLease, holder, ttl.Seconds())
	if err != nil {
		return false, fmt.Errorf("hold the registry's lease: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// DropLease implements store.Lease.
func (s *Store) DropLease(ctx context.Context, holder string) error {
	if _, err := s.pool.Exec(ctx, "DELETE FROM registry_lease WHERE holder = $1", holder); err != nil {
		return fmt.Errorf("drop the registry's lease: %w", err)
	}
	return nil
}

// channel is notified of each change.
const channel = "registry_changed"

// Listen implements store.Follower, on a connection of its own.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen for changes in Postgres: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bounded) // its end is all that matters
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen for changes in Postgres: %w", err)
	}
	for wake(); ; wake() { // at once: what came before LISTEN was not heard
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen for changes in Postgres: %w", err)
		}
	}
}
