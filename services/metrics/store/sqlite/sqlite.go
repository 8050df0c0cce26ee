// Package sqlite is a [store.Store] in one SQLite file, for a single process. It may share its file with others: its
// tables begin with metrics_. Start at [Open].
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open file.
type Store struct{ db *sql.DB }

var _ store.Store = (*Store)(nil)

// Open opens the file, made where there is none, and brings its tables up to date.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := database.SQLite(ctx, path, database.Tables{Service: "metrics", Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{db: db}, nil
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
