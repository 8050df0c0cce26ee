package mcphttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
	"erlmcp.dev/shared/upstream"
)

// Modern calls a server of revision 2026-07-28: each call is a request of its own.
type Modern struct {
	*endpoint
	next atomic.Int64

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	mu     sync.Mutex // held while calls grow, so that none is added once Close waits
	calls  sync.WaitGroup
}

var _ upstream.Peer = (*Modern)(nil)

// NewModern makes a Modern. It connects when first called.
func NewModern(config Config) (*Modern, error) {
	e, err := newEndpoint(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Modern{endpoint: e, ctx: ctx, cancel: cancel}, nil
}

// Call implements upstream.Peer. The request's params carry the modern metadata.
func (m *Modern) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	if !m.begin() {
		return upstream.Reply{}, fmt.Errorf("%w: %w", upstream.ErrNotSent, upstream.ErrClosed)
	}
	defer m.calls.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.ctx, func() { cancel(upstream.ErrClosed) })()
	id := jsonrpc.IntID(m.next.Add(1))
	header := m.postHeader()
	mirror(header, req.Headers)
	fields := [3]string{0: req.Method}
	header[mcp.HeaderMethod] = fields[0:1:1]
	if version, ok := jsonrpc.GetString(req.Params, "_meta", mcp.MetaVersion); ok {
		fields[1] = version
		header[mcp.HeaderVersion] = fields[1:2:2]
	}
	if member := mcp.NamedBy(req.Method); member != "" {
		if name, ok := jsonrpc.GetString(req.Params, member); ok {
			fields[2] = mcp.EncodeHeader(name)
			header[mcp.HeaderName] = fields[2:3:3]
		}
	}
	response, err := m.post(ctx, m.url, header, jsonrpc.Request(id, req.Method, req.Params))
	if err != nil {
		return upstream.Reply{}, err
	}
	if kind(response) == "text/event-stream" && response.StatusCode == http.StatusOK {
		return m.stream(response, id, from)
	}
	if kind(response) != "application/json" {
		discard(response)
		return upstream.Reply{}, statusError(response)
	}
	data, err := m.body(response)
	if err != nil {
		return upstream.Reply{}, err
	}
	message, err := jsonrpc.Parse(data)
	if err != nil || !message.IsResponse() || message.ID != nil && string(message.ID) != string(id) {
		if response.StatusCode >= http.StatusBadRequest {
			return upstream.Reply{}, statusError(response)
		}
		return upstream.Reply{}, fmt.Errorf("%w: not the answer to the request", upstream.ErrRefused)
	}
	return upstream.Reply{Result: message.Result, Error: message.Error, Status: response.StatusCode}, nil
}

// begin counts a call, unless the conversation was closed.
func (m *Modern) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.calls.Add(1)
	return true
}

// stream reads an answer that comes as events.
func (m *Modern) stream(response *http.Response, id json.RawMessage, from upstream.Listener) (upstream.Reply, error) {
	answered := false
	defer func() {
		if answered {
			discard(response) // a stream ends behind the answer
		} else {
			_ = response.Body.Close()
		}
	}()
	decoder := sse.NewDecoder(response.Body, m.max)
	for {
		event, err := decoder.Next()
		if err != nil {
			return upstream.Reply{}, streamError(response.Request.Context(), err)
		}
		if len(event.Data) == 0 || event.Name != "message" {
			continue
		}
		message, err := jsonrpc.Parse(event.Data)
		switch {
		case err != nil:
			return upstream.Reply{}, fmt.Errorf("%w: %w", upstream.ErrRefused, err)
		case message.IsNotification():
			params := message.Params
			if sub := jsonrpc.Get(params, "_meta", mcp.MetaSubscriptionID); sub != nil && string(sub) != string(id) {
				continue // of another subscription: not ours
			}
			if from != nil {
				from.Notification(message.Method, params)
			}
		case message.IsResponse() && (message.ID == nil || string(message.ID) == string(id)):
			answered = true
			return upstream.Reply{Result: message.Result, Error: message.Error, Status: response.StatusCode}, nil
		}
	}
}

// streamError says what the end of an event stream means.
func streamError(ctx context.Context, err error) error {
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case errors.Is(err, sse.ErrTooLarge):
		return fmt.Errorf("%w: %w", upstream.ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", upstream.ErrLost, err)
}

// Notify implements upstream.Peer: the modern era has no notification to send over HTTP.
func (m *Modern) Notify(context.Context, string, json.RawMessage) error { return nil }

// Close implements upstream.Peer.
func (m *Modern) Close() error {
	m.mu.Lock()
	m.cancel(upstream.ErrClosed)
	m.mu.Unlock()
	m.calls.Wait()
	return nil
}
