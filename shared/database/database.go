// Package database opens the SQL databases that services keep things in, and brings their tables up to date. Services may
// share a database: each has tables, and a table of its tables' version, that begin with its name. It must not know what
// the tables hold. Start at [Postgres] and [SQLite].
package database

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Tables are a service's.
type Tables struct {
	// Service whose they are: their names begin with it and an underscore.
	Service string
	// Migrations has the folder migrations, of goose's numbered SQL files.
	Migrations fs.FS
}

// migrate brings the tables up to date.
func (t Tables) migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, options ...goose.ProviderOption) error {
	files, err := fs.Sub(t.Migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, db, files, append(options, goose.WithTableName(t.Service+"_goose_version"))...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func (t Tables) outdated(err error) error {
	return fmt.Errorf("bring the tables of the %s service up to date: %w", t.Service, err)
}
