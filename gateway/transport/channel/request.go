package channel

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// request is one that is under way.
type request struct {
	c         *connection
	ctx       context.Context // a modern one's ends when it is cancelled
	cancel    context.CancelFunc
	modern    bool
	listen    bool
	cancelled atomic.Bool
}

// Send implements engine.Stream.
func (r *request) Send(_ string, message []byte) error {
	if message == nil {
		return nil
	}
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	return r.c.out.put(r.ctx, outgoing{pieces: [][]byte{message}, cancelled: &r.cancelled}, droppable(message))
}

// begin carries out a request in a goroutine of its own and sends its answer. One that can't be begun is refused.
func (c *connection) begin(ctx context.Context, m *jsonrpc.Message, modern bool, carryOut func(r *request) [][]byte) {
	if refused := c.admit(ctx, m, modern, carryOut); refused != nil {
		c.answer(ctx, m.ID, refused)
	}
}

func (c *connection) admit(ctx context.Context, m *jsonrpc.Message, modern bool, carryOut func(r *request) [][]byte) *jsonrpc.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := string(m.ID)
	switch {
	case c.settling:
		return engine.Stopping()
	case c.requests[id] != nil:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "a request with this id is still under way")
	case len(c.requests) >= c.server.MaxRequests:
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "%d requests are under way on this connection, and it takes no more; wait for an answer", c.server.MaxRequests)
	}
	r := &request{c: c, modern: modern, listen: m.Method == mcp.MethodListen}
	r.ctx, r.cancel = context.WithCancel(ctx)
	c.requests[id] = r
	c.tasks.Go(func() {
		pieces := carryOut(r)
		if len(pieces) > 0 && r.ctx.Err() == nil {
			_ = c.out.put(r.ctx, outgoing{pieces: pieces, cancelled: &r.cancelled}, false) // or the connection ended
		}
		r.cancel()
		c.done(id)
	})
	return nil
}

func (c *connection) done(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.requests, id)
	if c.settling && len(c.requests) == 0 {
		close(c.quiet)
	}
}

// cancelModern ends a modern request that is under way. It is false where there is none of that id.
func (c *connection) cancelModern(id json.RawMessage) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.requests[string(id)]
	if r == nil || !r.modern {
		return false
	}
	r.cancelled.Store(true)
	r.cancel()
	return true
}

// cancelListens ends all subscriptions.
func (c *connection) cancelListens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.requests {
		if r.listen {
			r.cancelled.Store(true)
			r.cancel()
		}
	}
}

// modern carries out a request of the modern era.
func (c *connection) modern(r *request, m *jsonrpc.Message) [][]byte {
	reply := c.server.Engine.Modern(r.ctx, c.client, m, r)
	if r.listen && reply.Status < 400 && len(reply.Body) > 0 {
		// The gateway ends the subscription; here, other than on HTTP, no end of a stream says so.
		_ = r.Send("", tornDown(m.ID))
	}
	return reply.Body
}

// tornDown tells that a subscription was ended on this side (specification 2026-07-28, cancellation).
func tornDown(id json.RawMessage) []byte {
	var meta, params jsonrpc.Object
	meta.Set(mcp.MetaSubscriptionID, id)
	params.Set("requestId", id)
	params.Set("reason", jsonrpc.String("the gateway is stopping; listen again on a new connection"))
	params.Set("_meta", meta.JSON())
	return jsonrpc.Request(nil, mcp.MethodCancelled, params.JSON())
}

// answer sends an error. With a nil id, one that could not be read, the id is null.
func (c *connection) answer(ctx context.Context, id json.RawMessage, err *jsonrpc.Error) {
	if id == nil {
		id = json.RawMessage("null")
	}
	_ = c.send(ctx, jsonrpc.ErrorResponse(id, err.JSON())) // or the connection ended
}

func joined(pieces [][]byte) []byte {
	var whole []byte
	for _, p := range pieces {
		whole = append(whole, p...)
	}
	return whole
}

var _ engine.Stream = (*request)(nil)
