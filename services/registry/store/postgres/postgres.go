// Package postgres is a [store.Store] in PostgreSQL, for clusters. It may share its database with others: its tables
// begin with registry_. Start at [Open].
package postgres

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/database"
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
	pool, err := database.Postgres(ctx, dsn, database.Tables{Service: "registry", Migrations: migrations})
	if err != nil {
		return nil, err
	}
	if o.KeepRemovals <= 0 {
		o.KeepRemovals = 10_000
	}
	return &Store{reader: reader{pool}, pool: pool, keep: int64(o.KeepRemovals)}, nil
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

// Listen implements store.Follower.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	return database.Listen(ctx, s.pool, channel, wake, func(string) { wake() }) // at once: what came before was not heard
}
