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

// Backup writes the embedded store, as of one moment, to a new file. A running erlmcp goes on meanwhile.
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
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("write the backup %s: %w", to, err)
	}
	return os.Chmod(to, 0o600)
}
