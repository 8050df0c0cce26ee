package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"erlmcp.dev/shared/config"
)

// Backup writes the embedded store, as of one moment, to a new file that only its owner may read. A running erlmcp goes on meanwhile.
func Backup(ctx context.Context, cfg config.Config, to string) (err error) {
	if cfg.DB.Set {
		return errors.New("the data is in Postgres; back it up with scripts/backup-data.sh")
	}
	from := filepath.Join(cfg.DataDir, embeddedName)
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("open the embedded store: %w; give its directory with --data-dir", err)
	}
	db, err := sql.Open("sqlite", from) // the stores bring the driver
	if err != nil {
		return fmt.Errorf("open %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// SQLite writes into an empty file that is there; one that it makes itself others could read meanwhile.
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the backup: %w; give the name of a new file", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make the backup %s: %w", to, err)
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return errors.Join(fmt.Errorf("write the backup %s: %w", to, err), os.Remove(to))
	}
	return nil
}
