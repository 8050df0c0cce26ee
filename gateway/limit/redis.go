package limit

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"erlmcp.dev/shared/redisx"
)

//go:embed lua/take.lua
var takeSource string

var takeScript = redisx.NewScript("take", takeSource)

// Redis is a Store in Redis, of any mode: single, Sentinel or Cluster.
type Redis struct {
	Client redis.UniversalClient
}

// Take implements Store.
func (r Redis) Take(ctx context.Context, rate, want int, principals []string) ([]Portion, error) {
	calls := make([]redisx.Call, len(principals))
	for i, p := range principals {
		calls[i] = redisx.Call{Keys: []string{"erlmcp:rate:{" + p + "}"}, Args: []any{rate, want}}
	}
	portions := make([]Portion, len(calls))
	for i, reply := range takeScript.RunAll(ctx, r.Client, calls) {
		if reply.Err != nil {
			return nil, reply.Err
		}
		pair, ok := reply.Value.([]any)
		if !ok || len(pair) != 2 {
			return nil, fmt.Errorf("take a principal's portion: Redis answered %v", reply.Value)
		}
		tokens, _ := pair[0].(int64)
		wait, _ := pair[1].(int64)
		portions[i] = Portion{Tokens: int(tokens), Wait: time.Duration(wait) * time.Millisecond}
	}
	return portions, nil
}
