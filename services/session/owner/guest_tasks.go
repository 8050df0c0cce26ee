package owner

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// maxKept is how long a conversation is kept for a server's own tasks.
const maxKept = 24 * time.Hour

// keep keeps the conversation as long as a task lives that the server made.
func (e *guest) keep(created json.RawMessage) {
	life := maxKept
	if ms, err := strconv.ParseInt(string(jsonrpc.Get(created, "ttlMs")), 10, 64); err == nil && ms < maxKept.Milliseconds() {
		life = time.Duration(ms) * time.Millisecond
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if until := time.Now().Add(life); until.After(e.kept) {
		e.kept = until
	}
}

// aboutTask carries out a request about a task that a server made in an earlier call. When the conversation is gone,
// so is the task.
func (g *guests) aboutTask(ctx context.Context, req Relayed) (Outcome, error) {
	g.mu.Lock()
	e := g.ends[guestKey{req.Principal, req.Server, req.Conversation}]
	g.mu.Unlock()
	if e == nil {
		return respond(req.Message, failed(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "Unknown task: the conversation with its server ended"))), nil
	}
	e.mu.Lock()
	e.used = time.Now()
	e.mu.Unlock()
	end, ok := e.slot.current()
	if !ok {
		return respond(req.Message, failed(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "Unknown task: its server ended"))), nil
	}
	reply, err := end.Call(ctx, upstream.Request{Method: req.Message.Method, Params: req.Message.Params}, nil)
	if err != nil {
		if end.broken(err) {
			e.slot.drop(end)
		}
		return respond(req.Message, failed(upstream.Explain(req.Server, err))), nil
	}
	return respond(req.Message, reply), nil
}
