package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Postgres connects to the database of a DSN (URL or keywords; pool_max_conns bounds the pool) and brings the tables up to
// date. Replicas that start together wait for each other, for a minute.
func Postgres(ctx context.Context, dsn string, t Tables) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres connection string: %w", err)
	}
	// Connections that a restart of Postgres broke are noticed before they are used, so that no change fails by them: what
	// was sent on one could not be repeated. Services ask little enough to afford the round trip.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := migratePostgres(ctx, pool, t); err != nil {
		pool.Close()
		return nil, t.outdated(err)
	}
	return pool, nil
}

func migratePostgres(ctx context.Context, pool *pgxpool.Pool, t Tables) (err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60)) // each second, for a minute
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }() // the pool stays open
	return t.migrate(ctx, goose.DialectPostgres, db, goose.WithSessionLocker(locker))
}

// Listen passes on the payloads of a channel's notifications, on a connection of its own beside the pool's, until that
// fails or ctx ends. It calls ready once it hears: what came before is not passed on.
func Listen(ctx context.Context, pool *pgxpool.Pool, channel string, ready func(), receive func(payload string)) error {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen to Postgres: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bounded) // its end is all that matters
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen to Postgres: %w", err)
	}
	ready()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen to Postgres: %w", err)
		}
		receive(n.Payload)
	}
}
