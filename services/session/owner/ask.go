package owner

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// answer is a client's answer to a request of ours: one of the two.
type answer struct {
	result json.RawMessage
	err    *jsonrpc.Error
}

// question is a request of ours to the client.
type question struct {
	answered chan answer   // of capacity 1
	over     chan struct{} // closed once the server has the answer, or wants none
	waiting  chan struct{} // holds a place for each who waits for that
}

func newQuestion() *question {
	return &question{answered: make(chan answer, 1), over: make(chan struct{}), waiting: make(chan struct{}, maxBringing)}
}

// maxBringing is how many may bring one answer at once, and wait: gateways that lost a connection, and a client that tries
// again.
const maxBringing = 4

// takeTime is how long a client's answer waits at most for its server to take it. One that lives does so in milliseconds,
// and clients, and what is between, wait longer than that for what they send.
const takeTime = 5 * time.Second

// ask sends a server's request to the client, on the stream of the call it belongs to, and waits for the
// answer. Its id is 128 random bits, so nobody can answer who was not asked. Servers may withdraw what they asked and ask
// anew as often as they like, so it is refused where the client does not read.
func (s *session) ask(ctx context.Context, to emitter, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	switch {
	case len(params) > maxStreamBytes:
		return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "a request to the client is at most %d bytes long", maxStreamBytes)
	case to.full():
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client does not read; too much waits for it")
	}
	id := jsonrpc.String("erlmcp-" + rand.Text())
	return s.await(ctx, to, id, func() { to.emit(jsonrpc.Request(id, method, params), false) })
}

// await waits for the client's answer to a request, which send sends if it was not sent before. ctx must end once the
// server has the answer, as that of upstream.Listener's Request does.
func (s *session) await(ctx context.Context, to emitter, id json.RawMessage, send func()) (json.RawMessage, *jsonrpc.Error) {
	s.mu.Lock()
	q := s.early[string(id)]
	full := q == nil && len(s.asked) >= maxAsked
	if q == nil {
		q = newQuestion()
	}
	if !full {
		delete(s.early, string(id))
		s.asked[string(id)] = q
	}
	s.mu.Unlock()
	if full {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many requests to this client wait for an answer")
	}
	over := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, string(id))
		close(q.over)
	}
	if send != nil {
		send()
	}
	select {
	case a := <-q.answered:
		context.AfterFunc(ctx, over)
		return a.result, a.err
	case <-ctx.Done():
		over()
		if errors.Is(context.Cause(ctx), upstream.ErrLeft) { // it goes on waiting elsewhere
			return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the question was left to another process")
		}
		var cancelled jsonrpc.Object
		cancelled.Set("requestId", id)
		to.emit(jsonrpc.Request(nil, mcp.MethodCancelled, cancelled.JSON()), false)
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer in time")
	}
}

// answer hands a client's response to whoever waits for it, and waits until the server has it, for takeTime at most:
// where this process dies before, whoever brought it brings it to the next owner. One that nobody waits for is dropped,
// unless calls of the owner before are being taken up, which may have asked. ErrStopped where the session lives on
// elsewhere, and the question with it; ErrBusy where too many bring the same.
func (s *session) answer(ctx context.Context, m *jsonrpc.Message) error {
	a := answer{result: m.Result}
	if m.Error != nil {
		a = answer{err: jsonrpc.ParseError(m.Error)}
	}
	if q := s.question(m.ID); q != nil {
		select {
		case q.waiting <- struct{}{}:
			defer func() { <-q.waiting }()
		default:
			return ErrBusy
		}
		select {
		case q.answered <- a:
		default: // it was brought before
		}
		late := time.NewTimer(takeTime)
		defer late.Stop()
		select {
		case <-q.over:
		case <-late.C:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}
	if errors.Is(context.Cause(s.ctx), ErrStopped) {
		return ErrStopped
	}
	return nil
}

// question is the one that a client answers; nil where nobody wants the answer.
func (s *session) question(id json.RawMessage) *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.asked[string(id)]
	if q == nil && s.takingUp > 0 {
		q = s.early[string(id)]
		if q == nil && len(s.early) < maxAsked {
			q = newQuestion()
			s.early[string(id)] = q
		}
	}
	return q
}

// emitter puts messages on a stream to the client.
type emitter interface {
	// emit puts a message on the stream. One that is droppable is left out where it is full, or the message too long.
	emit(message []byte, droppable bool)
	// full reports whether as much waits for the reader as may.
	full() bool
}

// heard passes on what a server sends during a call of this session.
type heard struct {
	session *session
	to      emitter
}

// Notification implements upstream.Listener.
func (h heard) Notification(method string, params json.RawMessage) {
	switch method {
	case mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged:
		return // the registry hears that too, and tells once its lists are new
	}
	h.to.emit(jsonrpc.Request(nil, method, params), true)
}

// Request implements upstream.Listener.
func (h heard) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	switch method {
	case mcp.MethodPing:
		return json.RawMessage("{}"), nil
	case mcp.MethodSample, mcp.MethodElicit, mcp.MethodRootsList:
		return h.session.ask(ctx, h.to, method, params)
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}

// standingListener passes on what a server sends outside any call of this session.
type standingListener struct {
	session *session
	server  string
}

// Notification implements upstream.Listener.
func (l standingListener) Notification(method string, params json.RawMessage) {
	switch method {
	case mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged:
		l.session.owner.listChanged(l.server)
	case mcp.MethodResourceUpdated:
		l.session.updated(params)
	default:
		heard{l.session, l.to()}.Notification(method, params)
	}
}

// Request implements upstream.Listener.
func (l standingListener) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return heard{l.session, l.to()}.Request(ctx, method, params)
}

// to is where a message goes that names no call: to the only call at this server, if there is just one, since
// programs on standard streams have no other way to say so; else to the standing stream.
func (l standingListener) to() emitter {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	var only *call
	for _, c := range l.session.calls {
		if c.server != l.server {
			continue
		}
		if only != nil {
			return standingEmitter{l.session}
		}
		only = c
	}
	if only == nil {
		return standingEmitter{l.session}
	}
	return callEmitter{l.session, only}
}
