package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// MetaSession is the member of _meta that tells a session: in the result of initialize to the client, which puts
// it into the params of initialize on another connection to come back.
const MetaSession = "dev.erlmcp/session"

// take serves one message. It waits only where the client has to: while initialize is carried out, and while too
// many messages that ask for no answer are being handed on.
func (c *connection) take(ctx context.Context, data []byte) {
	m, err := jsonrpc.Parse(data)
	switch {
	case errors.Is(err, jsonrpc.ErrBatch):
		c.batch(ctx, data)
	case err != nil:
		c.malformed(ctx, m, err)
	case !m.IsRequest():
		c.notify(ctx, &m)
	case engine.IsModern(&m, nil):
		c.begin(ctx, &m, true, func(r *request) [][]byte { return c.modern(r, &m) })
	case m.Method == mcp.MethodInitialize && c.session.get() == "":
		c.initialize(ctx, &m)
	case m.Method == mcp.MethodPing:
		_ = c.send(ctx, jsonrpc.Response(m.ID, json.RawMessage("{}"))) // or the connection ended
	default:
		c.begin(ctx, &m, false, func(r *request) [][]byte { return c.legacy(r.ctx, &m, r) })
	}
}

func (c *connection) malformed(ctx context.Context, m jsonrpc.Message, err error) {
	if m.ID == nil {
		m.ID = json.RawMessage("null")
	}
	_ = c.send(ctx, joined(engine.Malformed(m, err).Body)) // or the connection ended
}

// initialize opens a session, or takes up the one that the client names.
func (c *connection) initialize(ctx context.Context, m *jsonrpc.Message) {
	if c.stopping() {
		c.answer(ctx, m.ID, jsonrpc.Errorf(jsonrpc.CodeInternal, "this gateway is stopping; connect anew"))
		return
	}
	var s *engine.Session
	var reply engine.Reply
	again := false
	if token, ok := jsonrpc.GetString(m.Params, "_meta", MetaSession); ok {
		found, err := c.server.Engine.Session(ctx, c.client, token)
		if err == nil {
			s, reply, again = found, found.Welcome(m), true
		} else if !errors.Is(err, engine.ErrNoSession) {
			c.answer(ctx, m.ID, jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", err))
			return
		}
	}
	if s == nil {
		s, reply = c.server.Engine.Initialize(ctx, c.client, m)
	}
	body := joined(reply.Body)
	if s == nil {
		_ = c.send(ctx, body) // or the connection ended
		return
	}
	body = jsonrpc.With(body, jsonrpc.String(s.Token()), "result", "_meta", MetaSession)
	hold := make(chan struct{})
	attached := c.follow(ctx, s.Token(), hold)
	if again {
		await(ctx, attached)
	}
	_ = c.send(ctx, body) // or the connection ended
	close(hold)
}

func (c *connection) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settling
}

var errFirst = jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "send initialize first, or the metadata of revision %s with each request", mcp.ModernVersions[0])

// legacy carries out a request of the session.
func (c *connection) legacy(ctx context.Context, m *jsonrpc.Message, out engine.Stream) [][]byte {
	s, refused := c.found(ctx)
	if refused != nil {
		return [][]byte{jsonrpc.ErrorResponse(m.ID, refused.JSON())}
	}
	return s.Request(ctx, m, out).Body
}

// found is the connection's session as it is now; where it is owned may have changed.
func (c *connection) found(ctx context.Context) (*engine.Session, *jsonrpc.Error) {
	token := c.session.get()
	if token == "" {
		return nil, errFirst
	}
	s, err := c.server.Engine.Session(ctx, c.client, token)
	switch {
	case errors.Is(err, engine.ErrNoSession):
		c.session.lost(token)
		return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", err)
	case err != nil:
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", err)
	}
	return s, nil
}

// notify takes a notification or a response. One that belongs to the session is handed on in the background, so
// that a server which is slow to take it holds up nothing else.
func (c *connection) notify(ctx context.Context, m *jsonrpc.Message) {
	if m.Method == mcp.MethodCancelled && c.cancelModern(jsonrpc.Get(m.Params, "requestId")) {
		return
	}
	if c.session.get() == "" || engine.IsModern(m, nil) {
		return // nobody waits for it
	}
	select {
	case c.oneWay <- struct{}{}:
	case <-ctx.Done():
		return
	}
	c.tasks.Go(func() {
		defer func() { <-c.oneWay }()
		c.deliver(ctx, m)
	})
}

func (c *connection) deliver(ctx context.Context, m *jsonrpc.Message) {
	s, refused := c.found(ctx)
	if refused != nil {
		return
	}
	if err := s.Notify(ctx, m); err != nil && ctx.Err() == nil {
		c.server.Log.InfoContext(ctx, "a message of a client did not reach its session", "method", m.Method, "error", err)
	}
}

// batch serves a JSON-RPC batch, which only sessions of revision 2025-03-26 have. Its requests are served one
// after the other, and their answers come in one array.
func (c *connection) batch(ctx context.Context, data []byte) {
	elements, _, err := jsonrpc.Batch(data)
	if err != nil {
		c.malformed(ctx, jsonrpc.Message{}, err)
		return
	}
	s, refused := c.found(ctx)
	if refused != nil || s.Version() != mcp.V2025_03_26 {
		c.malformed(ctx, jsonrpc.Message{}, jsonrpc.ErrBatch)
		return
	}
	if len(elements) > MaxBatch {
		c.answer(ctx, nil, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "a batch holds at most %d messages", MaxBatch))
		return
	}
	// No message's raw id looks like the place that a batch takes among the requests.
	whole := &jsonrpc.Message{ID: append(json.RawMessage{'['}, elements[0]...)}
	if refused := c.admit(ctx, whole, false, func(r *request) [][]byte { return c.each(r, elements) }); refused != nil {
		c.answer(ctx, nil, refused)
	}
}

// each serves a batch's elements and returns their answers as an array.
func (c *connection) each(r *request, elements []json.RawMessage) [][]byte {
	var answers [][]byte
	for _, element := range elements {
		m, err := jsonrpc.Parse(element)
		switch {
		case err != nil:
			if m.ID == nil {
				m.ID = json.RawMessage("null")
			}
			answers = append(answers, joined(engine.Malformed(m, err).Body))
		case m.IsRequest() && m.Method == mcp.MethodInitialize:
			answers = append(answers, jsonrpc.ErrorResponse(m.ID, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "initialize must stand alone").JSON()))
		case m.IsRequest():
			if a := joined(c.legacy(r.ctx, &m, r)); len(a) > 0 {
				answers = append(answers, a)
			}
		default:
			c.deliver(r.ctx, &m)
		}
	}
	if len(answers) == 0 {
		return nil
	}
	whole := append([]byte{'['}, bytes.Join(answers, []byte{','})...)
	return [][]byte{append(whole, ']')}
}
