// Package mux pairs requests with their answers on a conversation where many are under way at once, and leads
// what a server sends to whom it concerns. It must not know how messages travel. Start at [New].
package mux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// Mux is one conversation. It is safe for concurrent use.
type Mux struct {
	standing upstream.Listener
	answer   func(ctx context.Context, message []byte) error
	ctx      context.Context // ends with the conversation
	cancel   context.CancelFunc
	asked    sync.WaitGroup

	mu      sync.Mutex
	next    int64
	calls   map[int64]*Call
	logging map[int64]*Call      // those of calls that asked for log messages, in the modern era
	serving map[string]*question // by the server's raw id
	failed  error
}

// question is a request of the server that somebody works on.
type question struct {
	cancel    context.CancelFunc
	withdrawn atomic.Bool // by the server, which wants no answer any more
}

// Bounds of one conversation.
const (
	// maxCalls is how many calls may wait for an answer at once.
	maxCalls = 16384
	// maxServing is how many requests of the server may wait for an answer at once.
	maxServing = 100
	// answerTime is how long an answer to the server may take to send.
	answerTime = 30 * time.Second
)

// New makes a Mux. standing hears what concerns no call; it may be nil. answer sends what answers the server's
// requests.
func New(standing upstream.Listener, answer func(ctx context.Context, message []byte) error) *Mux {
	ctx, cancel := context.WithCancel(context.Background())
	return &Mux{
		standing: standing, answer: answer, ctx: ctx, cancel: cancel,
		calls: map[int64]*Call{}, logging: map[int64]*Call{}, serving: map[string]*question{},
	}
}

// IDsAfter makes ids begin behind last, for a conversation that others had ids in before. To be called before the
// first Begin.
func (m *Mux) IDsAfter(last int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next = last
}

// Call is one request under way.
type Call struct {
	// Message is the request as it goes to the server, with an id and a progress token of this conversation.
	Message []byte
	// Done is closed once the call is answered or failed.
	Done chan struct{}

	id    int64
	token json.RawMessage // the caller's
	// listens says that it is a subscription, which the server may end.
	listens bool
	from    upstream.Listener
	mux     *Mux
	ctx     context.Context

	hearing sync.Mutex // held while from is told something: streams deliver side by side
	over    bool       // from is told nothing more

	once  sync.Once
	reply upstream.Reply
	err   error
}

// Begin starts a call. End must follow. Its errors say that nothing was sent: upstream.ErrSessionGone where the
// conversation failed, upstream.ErrNotSent where it was closed here or has no room.
func (m *Mux) Begin(ctx context.Context, req upstream.Request, from upstream.Listener) (*Call, error) {
	c := &Call{Done: make(chan struct{}), from: from, mux: m, ctx: ctx, listens: req.Method == mcp.MethodListen}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.over(); err != nil {
		return nil, err
	}
	if len(m.calls) >= maxCalls {
		return nil, fmt.Errorf("%w: more than %d calls wait for its answer", upstream.ErrNotSent, maxCalls)
	}
	m.next++
	c.id = m.next
	params := req.Params
	if c.token = jsonrpc.Get(params, "_meta", mcp.MetaProgressToken); c.token != nil {
		params = jsonrpc.With(params, jsonrpc.IntID(c.id), "_meta", mcp.MetaProgressToken)
	}
	c.Message = jsonrpc.Request(jsonrpc.IntID(c.id), req.Method, params)
	m.calls[c.id] = c
	if jsonrpc.Get(params, "_meta", mcp.MetaLogLevel) != nil {
		m.logging[c.id] = c
	}
	return c, nil
}

// Continue is Begin for a call that another process began, with the id and the caller's progress token, if any, that
// it had there.
func (m *Mux) Continue(ctx context.Context, id int64, token json.RawMessage, from upstream.Listener) (*Call, error) {
	c := &Call{Done: make(chan struct{}), from: from, mux: m, ctx: ctx, id: id, token: token}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.over(); err != nil {
		return nil, err
	}
	if len(m.calls) >= maxCalls || m.calls[id] != nil {
		return nil, fmt.Errorf("%w: the call can't be continued now", upstream.ErrNotSent)
	}
	m.calls[id] = c
	return c, nil
}

// ID is the call's, at the server.
func (c *Call) ID() int64 { return c.id }

// End forgets a call; what still comes for it is dropped. Its listener is told nothing once End returned.
func (c *Call) End() {
	c.mux.mu.Lock()
	delete(c.mux.calls, c.id)
	delete(c.mux.logging, c.id)
	c.mux.mu.Unlock()
	c.hearing.Lock()
	defer c.hearing.Unlock()
	c.over = true
}

// Cancelled is the notification that tells the server to give up the call.
func (c *Call) Cancelled(reason string) []byte {
	var params jsonrpc.Object
	params.Set("requestId", jsonrpc.IntID(c.id))
	params.Set("reason", jsonrpc.String(reason))
	return jsonrpc.Request(nil, mcp.MethodCancelled, params.JSON())
}

// Reply is the answer, once Done is closed.
func (c *Call) Reply() (upstream.Reply, error) { return c.reply, c.err }

// Fail ends the call with an error, unless it is answered.
func (c *Call) Fail(err error) { c.finish(upstream.Reply{}, err) }

func (c *Call) finish(reply upstream.Reply, err error) {
	c.once.Do(func() {
		c.reply, c.err = reply, err
		close(c.Done)
	})
}

// Fail ends the conversation: calls under way and later ones fail with err.
func (m *Mux) Fail(err error) {
	m.mu.Lock()
	if m.failed == nil {
		m.failed = err
	}
	calls := m.calls
	m.calls, m.logging = map[int64]*Call{}, map[int64]*Call{}
	m.mu.Unlock()
	for _, c := range calls {
		c.Fail(err)
	}
	m.cancel()
}

// UnderWay are the calls that are not over, at most that many.
func (m *Mux) UnderWay(most int) []*Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := make([]*Call, 0, min(len(m.calls), most))
	for _, c := range m.calls {
		if len(calls) == most {
			break
		}
		calls = append(calls, c)
	}
	return calls
}

// Wait waits, after Fail, for listeners that still answer the server's requests.
func (m *Mux) Wait() { m.asked.Wait() }

// Over says why nothing can be sent any more, in Begin's words; nil while the conversation goes on.
func (m *Mux) Over() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over()
}

func (m *Mux) over() error {
	switch {
	case errors.Is(m.failed, upstream.ErrClosed):
		return fmt.Errorf("%w: %w", upstream.ErrNotSent, upstream.ErrClosed)
	case m.failed != nil: // in words only: it is about the calls that were under way
		return fmt.Errorf("%w: %v", upstream.ErrSessionGone, m.failed) //nolint:errorlint // see above
	}
	return nil
}

// Deliver takes what the server sent: a message, or a batch of them. related is the call on whose stream it
// came, nil where streams say nothing. An error means that it was no message: upstream.ErrRefused.
func (m *Mux) Deliver(data []byte, related *Call) error {
	message, err := jsonrpc.Parse(data)
	if errors.Is(err, jsonrpc.ErrBatch) {
		elements, _, err := jsonrpc.Batch(data)
		if err != nil {
			return fmt.Errorf("%w: %w", upstream.ErrRefused, err)
		}
		for _, e := range elements {
			if message, err = jsonrpc.Parse(e); err != nil {
				return fmt.Errorf("%w: %w", upstream.ErrRefused, err)
			}
			m.take(&message, related)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", upstream.ErrRefused, err)
	}
	m.take(&message, related)
	return nil
}

func (m *Mux) take(message *jsonrpc.Message, related *Call) {
	switch {
	case message.IsResponse():
		if c := m.call(message.ID); c != nil {
			c.finish(upstream.Reply{Result: message.Result, Error: message.Error}, nil)
		} else if message.ID == nil && related != nil { // an error about a request that the server could not read
			related.finish(upstream.Reply{Error: message.Error}, nil)
		}
	case message.IsNotification():
		m.notification(message, related)
	default:
		m.request(message, related)
	}
}

func (m *Mux) call(rawID json.RawMessage) *Call {
	id, err := strconv.ParseInt(string(rawID), 10, 64)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[id]
}

func (m *Mux) notification(message *jsonrpc.Message, related *Call) {
	params := message.Params
	switch {
	case message.Method == mcp.MethodProgress:
		c := m.call(jsonrpc.Get(params, mcp.MetaProgressToken))
		if c == nil || c.token == nil {
			return // of a call that is over, or that did not ask for it
		}
		params = jsonrpc.With(params, c.token, mcp.MetaProgressToken)
		related = c
	case message.Method == mcp.MethodCancelled:
		m.cancelled(jsonrpc.Get(params, "requestId"))
		return
	case message.Method == mcp.MethodMessage && related == nil:
		related = m.logs()
	}
	if id := jsonrpc.Get(params, "_meta", mcp.MetaSubscriptionID); id != nil {
		if c := m.call(id); c != nil {
			related = c
		}
	}
	m.tell(related, message.Method, params)
}

// cancelled takes the server's word that a request is over: one of its own, or a subscription, which only
// we can ask for (specification 2026-07-28, subscriptions).
func (m *Mux) cancelled(rawID json.RawMessage) {
	m.mu.Lock()
	q := m.serving[string(rawID)]
	m.mu.Unlock()
	if q != nil {
		q.withdrawn.Store(true)
		q.cancel()
		return
	}
	if c := m.call(rawID); c != nil && c.listens {
		c.Fail(fmt.Errorf("%w: the server ended the subscription", upstream.ErrLost))
	}
}

// logs is the call that a modern server's log message belongs to, or nil. The message does not say; but only calls
// that asked for logs have any, so that there is no doubt where one did.
func (m *Mux) logs() *Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.logging) != 1 {
		return nil
	}
	for _, c := range m.logging {
		return c
	}
	return nil
}

// tell passes a notification on to whom it concerns.
func (m *Mux) tell(related *Call, method string, params json.RawMessage) {
	l := m.listener(related)
	if l == nil {
		return
	}
	if related != nil {
		related.hearing.Lock()
		defer related.hearing.Unlock()
		if related.over {
			return
		}
	}
	l.Notification(method, params)
}

// listener is who hears what concerns a call, or none; nil where nobody does.
func (m *Mux) listener(related *Call) upstream.Listener {
	if related != nil {
		return related.from
	}
	return m.standing
}

// request has the listener answer a request of the server, without holding up what else it sends.
func (m *Mux) request(message *jsonrpc.Message, related *Call) {
	ctx, cancel := m.within(related)
	if message.Method == mcp.MethodPing {
		defer cancel()
		m.respond(ctx, jsonrpc.Response(message.ID, json.RawMessage("{}")))
		return
	}
	l := m.listener(related)
	key := string(message.ID)
	q := &question{cancel: cancel}
	m.mu.Lock()
	refused := l == nil || len(m.serving) >= maxServing || m.serving[key] != nil || m.failed != nil
	if !refused {
		m.serving[key] = q
		m.asked.Add(1) // under the lock, so that none is added once Wait may wait
	}
	m.mu.Unlock()
	if refused {
		defer cancel()
		m.respond(ctx, jsonrpc.ErrorResponse(message.ID, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "nobody can be asked now; Method not found: %s", message.Method).JSON()))
		return
	}
	method, params, id := message.Method, message.Params, message.ID // the message is the caller's
	if o, ok := l.(upstream.Orderer); ok {
		l = o.Next(method, params)
	}
	go func() {
		defer m.asked.Done()
		defer cancel() // as upstream.Listener has it
		defer func() { // after the answer is sent: a server that takes none can't pile them up here
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.serving, key)
		}()
		result, rpcErr := l.Request(ctx, method, params)
		switch {
		case q.withdrawn.Load(), errors.Is(context.Cause(ctx), upstream.ErrLeft):
		case rpcErr != nil:
			m.respond(m.ctx, jsonrpc.ErrorResponse(id, rpcErr.JSON()))
		default:
			m.respond(m.ctx, jsonrpc.Response(id, result))
		}
	}()
}

// within is a context that ends with the conversation, and with the call that a question belongs to.
func (m *Mux) within(related *Call) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(m.ctx)
	if related == nil {
		return ctx, func() { cancel(nil) }
	}
	stop := context.AfterFunc(related.ctx, func() { cancel(context.Cause(related.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// respond sends an answer to the server. The server notices by itself when one is lost.
func (m *Mux) respond(ctx context.Context, message []byte) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_ = m.answer(ctx, message)
}
