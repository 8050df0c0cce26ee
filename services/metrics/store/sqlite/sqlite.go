// Package sqlite is a [store.Store] in one SQLite file, for a single process. It may share its file with others: its
// tables begin with metrics_. Start at [Open].
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

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"erlmcp.dev/services/metrics/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open file.
type Store struct{ db *sql.DB }

var _ store.Store = (*Store)(nil)

// Open opens the file, made where there is none, and brings its tables up to date.
func Open(ctx context.Context, path string) (*Store, error) {
	dsn, err := dsn(path)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	db.SetMaxOpenConns(4) // one writes, the others read
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the metrics tables in %s up to date: %w", path, err), db.Close())
	}
	return &Store{db: db}, nil
}

// dsn is a file URI. Transactions take the write lock at once: one that reads first and is refused the lock later
// would fail rather than wait. Synchronous FULL: what was accepted outlives a loss of power too.
func dsn(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: url.Values{
		"_txlock":       {"immediate"},
		"_busy_timeout": {"10000"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
	}.Encode()}
	return u.String(), nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName("metrics_goose_version"))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.db.QueryRowContext(ctx, "SELECT 1 FROM metrics_goose_version LIMIT 1").Scan(&one); err != nil {
		return fmt.Errorf("read from SQLite: %w", err)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error { return s.db.Close() }

// write runs do in a transaction.
func (s *Store) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}
