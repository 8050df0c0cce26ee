package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// storeWait is how long a process that starts waits for its database, which may have been started with it.
	storeWait  = time.Minute
	storeRetry = 500 * time.Millisecond
)

// await opens a store, or what begins by writing to one, trying again for storeWait while Postgres can't be reached, is
// only starting, or takes no writes.
func await[S any](ctx context.Context, log *slog.Logger, what string, open func() (S, error)) (S, error) {
	giveUp := time.Now().Add(storeWait)
	for told := false; ; told = true {
		opened, err := open()
		if err == nil || !absent(err) || time.Now().After(giveUp) {
			return opened, err
		}
		if !told {
			log.Warn("Postgres can't be reached or takes no writes; waiting for it", "for", what, "at_most", storeWait, "error", err)
		}
		select {
		case <-time.After(storeRetry):
		case <-ctx.Done():
			return opened, err
		}
	}
}

// readOnly is the code with which Postgres refuses a write that it would take elsewhere or later.
const readOnly = "25006"

// absent reports whether Postgres may be there later: it is not asked again who refused the password or has no such
// database. A stand-by's database takes no writes until it is promoted.
func absent(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return strings.HasPrefix(refused.Code, "57P") || refused.Code == readOnly // 57P: starting, or stopping
	}
	_, unconnected := errors.AsType[*pgconn.ConnectError](err)
	return unconnected
}
