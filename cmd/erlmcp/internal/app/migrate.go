package app

import (
	"context"
	"errors"

	metricspostgres "erlmcp.dev/services/metrics/store/postgres"
	registrypostgres "erlmcp.dev/services/registry/store/postgres"
	"erlmcp.dev/shared/config"
)

// Migrate brings the tables in Postgres up to date for this release, and starts nothing. Processes of the release
// before go on with them. Starting a registry or a metrics service does the same for its own tables.
func Migrate(ctx context.Context, cfg config.Config) error {
	if !cfg.DB.Set {
		return errors.New("no database is named; set ERLMCP_DB_URL or ERLMCP_DB_HOST. Without one, the embedded store migrates when erlmcp starts")
	}
	registry, err := registrypostgres.Open(ctx, string(cfg.DB.URL), registrypostgres.Options{})
	if err != nil {
		return err
	}
	metrics, err := metricspostgres.Open(ctx, string(cfg.DB.URL))
	if err != nil {
		return errors.Join(err, registry.Close())
	}
	return errors.Join(registry.Close(), metrics.Close())
}
