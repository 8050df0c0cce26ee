package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Memory is the path of a SQLite database that lives in memory and ends when it is closed, for tests.
const Memory = ":memory:"

// SQLite opens a file, made where there is none, and brings the tables up to date. Only its owner may read it.
func SQLite(ctx context.Context, path string, t Tables) (*sql.DB, error) {
	dsn, err := sqliteDSN(path)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	if path != Memory {
		if err := ownersAlone(path); err != nil {
			return nil, fmt.Errorf("make the SQLite file %s: %w", path, err)
		}
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite file %s: %w", path, err)
	}
	db.SetMaxOpenConns(4) // one writes, the others read
	if path == Memory {
		db.SetMaxOpenConns(1) // a second connection would be to a second database
	}
	if err := t.migrate(ctx, goose.DialectSQLite3, db); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, t.outdated(err)), db.Close())
	}
	return db, nil
}

// sqliteDSN is a file URI. Transactions that write take the write lock at once: one that reads first and is refused the
// lock later would fail rather than wait. Synchronous FULL: what was accepted outlives a loss of power too.
func sqliteDSN(path string) (string, error) {
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

// ownersAlone makes the file, where there is none, and takes it from all but its owner: it may hold secrets. SQLite gives
// the files that it makes beside it the same mode. A file that is there is not opened for that: to close it would take
// back the locks that this process has on it.
func ownersAlone(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, beside := range []string{"", "-wal", "-shm"} {
		_ = os.Chmod(path+beside, 0o600) // one that is another user's stays as that one wants it
	}
	return nil
}
