// Package sqlite is a [store.Store] in one SQLite file, for a single process. It may share its file with others: its
// tables begin with registry_. Start at [Open].
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"erlmcp.dev/services/registry/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Memory is the path of a database that lives in memory and ends with the Store, for tests.
const Memory = ":memory:"

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
	dsn, err := dsn(path)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	db.SetMaxOpenConns(4) // one writes, the others read
	if path == Memory {
		db.SetMaxOpenConns(1) // a second connection would be to a second database
	}
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the registry's tables in %s up to date: %w", path, err), db.Close())
	}
	if o.KeepRemovals <= 0 {
		o.KeepRemovals = 10_000
	}
	return &Store{reader: reader{db}, db: db, keep: int64(o.KeepRemovals), listeners: map[*func()]struct{}{}}, nil
}

// dsn is a file URI. Transactions that write take the write lock at once: one that reads first and is refused the
// lock later would fail rather than wait. Synchronous FULL: what was accepted outlives a loss of power too.
func dsn(path string) (string, error) {
	query := url.Values{
		"_txlock":       {"immediate"},
		"_busy_timeout": {"10000"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"true"},
	}.Encode()
	if path == Memory {
		return "file::memory:?" + query, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query}
	return u.String(), nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName("registry_goose_version"))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
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
