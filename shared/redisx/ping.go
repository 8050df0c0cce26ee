package redisx

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Ping tells whether Redis answers; of a cluster, every master that the client knows.
func Ping(ctx context.Context, client redis.UniversalClient) error {
	var err error
	if cluster, ok := client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			return master.Ping(ctx).Err()
		})
	} else {
		err = client.Ping(ctx).Err()
	}
	if err != nil {
		return fmt.Errorf("ping Redis: %w", err)
	}
	return nil
}

// LogTo sends what the Redis library itself has to say (connections that fail) to a logger, for all clients of
// the process: the library has one place for it. Programs call it once, at their start.
func LogTo(logger *slog.Logger) {
	redis.SetLogger(libraryLog{logger})
}

type libraryLog struct{ logger *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.WarnContext(ctx, "the Redis library says", "text", fmt.Sprintf(format, args...))
}
