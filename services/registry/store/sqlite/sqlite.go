// Package sqlite is a [store.Store] in one SQLite file, for a single process. It may share its file with others: its
// tables begin with registry_. Start at [Open].
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

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

// Store is an open file.
type Store struct {
	reader
	db   *sql.DB
	keep int64

	mu        sync.Mutex
	listeners map[*func()]struct{} // one for each Listen that runs
}

var _ store.Store = (*Store)(nil)

// Open opens the file, made where there is none, and brings its tables up to date.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	db, err := database.SQLite(ctx, path, database.Tables{Service: "registry", Migrations: migrations})
	if err != nil {
		return nil, err
	}
	if o.KeepRemovals <= 0 {
		o.KeepRemovals = 10_000
	}
	return &Store{reader: reader{db}, db: db, keep: int64(o.KeepRemovals), listeners: map[*func()]struct{}{}}, nil
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.db.QueryRowContext(ctx, "SELECT 1 FROM registry_catalog").Scan(&one); err != nil {
		return fmt.Errorf("read from SQLite: %w", err)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error { return s.db.Close() }

// HoldLease implements store.Lease: there is one process.
func (s *Store) HoldLease(context.Context, string, time.Duration) (bool, error) { return true, nil }

// DropLease implements store.Lease.
func (s *Store) DropLease(context.Context, string) error { return nil }

// Listen implements store.Follower: all changes are this Store's own.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	s.mu.Lock()
	s.listeners[&wake] = struct{}{}
	s.mu.Unlock()
	wake()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.listeners, &wake)
	s.mu.Unlock()
	return ctx.Err()
}

// tell wakes all listeners.
func (s *Store) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for wake := range s.listeners {
		(*wake)()
	}
}
