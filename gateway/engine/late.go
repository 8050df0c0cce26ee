package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"erlmcp.dev/shared/jsonrpc"
)

// CodeTooMany is the code of the error that a principal gets who asks too often. MCP leaves codes outside of JSON-RPC's
// own range to servers.
const CodeTooMany = http.StatusTooManyRequests

// RetryKey is the member of that error's data that says how many milliseconds to wait.
const RetryKey = "dev.erlmcp/retryAfterMs"

// late refuses a request of a principal that asks too often; ok is false where it may go on.
func (e *Engine) late(ctx context.Context, c Client, m *jsonrpc.Message) (r Reply, ok bool) {
	if e.config.Limiter == nil {
		return Reply{}, false
	}
	wait := e.config.Limiter.Wait(ctx, c.Principal.ID)
	if wait == 0 {
		return Reply{}, false
	}
	r = failure(m.ID, http.StatusTooManyRequests, &jsonrpc.Error{
		Code: CodeTooMany, Message: "too many requests; wait, then ask again",
		Data: json.RawMessage(`{"` + RetryKey + `":` + strconv.FormatInt(max(1, wait.Milliseconds()), 10) + `}`),
	})
	r.RetryAfter = wait
	return r, true
}
