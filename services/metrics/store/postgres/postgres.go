// Package postgres is a [store.Store] in PostgreSQL, for clusters. It may share its database with others: its tables
// begin with metrics_. Start at [Open].
package postgres

import (
	"context"
	"embed"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a database behind a pool of connections.
type Store struct {
	pool *pgxpool.Pool
	// places are partitions that are known to be there.
	places sync.Map
}

var _ store.Store = (*Store)(nil)

// Open connects to the database of a DSN (URL or keywords; pool_max_conns bounds the pool) and brings its tables up
// to date. Replicas that start together wait for each other.
func Open(ctx context.Context, dsn string) (*Store, error) {
	pool, err := database.Postgres(ctx, dsn, database.Tables{Service: "metrics", Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{pool: pool}, nil
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
