package owner

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// updated tells those who listen that a resource changed.
func (e *guest) updated(uri string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for to := range e.subs[uri] {
		select {
		case to <- uri:
		default: // one update of many was enough to make it look
		}
	}
}

// listen serves a modern client's subscriptions/listen for resources of a stateful server, until ctx ends or
// the conversation with the server breaks.
func (e *guest) listen(ctx context.Context, m *jsonrpc.Message, send func([]byte) error) error {
	var uris []string
	raw := jsonrpc.Get(m.Params, "notifications", "resourceSubscriptions")
	if raw == nil || json.Unmarshal(raw, &uris) != nil || len(uris) > maxSubs {
		return fmt.Errorf("%w: notifications.resourceSubscriptions must be an array of URIs", upstream.ErrRefused)
	}
	end, err := e.slot.get(ctx)
	if err != nil {
		return err
	}
	if end.Modern {
		_, err := end.Call(ctx, upstream.Request{Method: m.Method, Params: m.Params}, forward(func(method string, params json.RawMessage) {
			_ = send(jsonrpc.Request(nil, method, params)) // a gateway that is gone ends ctx
		}))
		return err
	}
	updates := make(chan string, 64)
	defer e.leave(end, uris, updates)
	for _, uri := range uris {
		e.join(uri, updates)
		if _, err := end.Call(ctx, upstream.Request{Method: mcp.MethodSubscribe, Params: uriParams(uri)}, nil); err != nil {
			if broken(err) {
				e.slot.drop(end)
			}
			return err
		}
	}
	for {
		select {
		case uri := <-updates:
			if err := send(jsonrpc.Request(nil, mcp.MethodResourceUpdated, uriParams(uri))); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join makes a channel hear of a resource.
func (e *guest) join(uri string, updates chan<- string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs[uri] == nil {
		e.subs[uri] = map[chan<- string]struct{}{}
	}
	e.subs[uri][updates] = struct{}{}
}

// subscribe tells a conversation that was opened anew what is listened for.
func (e *guest) subscribe(ctx context.Context, end End) {
	e.mu.Lock()
	uris := slices.Collect(maps.Keys(e.subs))
	e.mu.Unlock()
	for _, uri := range uris {
		_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodSubscribe, Params: uriParams(uri)}, nil)
	}
}

// leave undoes join, and unsubscribes from what nobody hears of any more.
func (e *guest) leave(end End, uris []string, updates chan<- string) {
	for _, uri := range uris {
		e.mu.Lock()
		delete(e.subs[uri], updates)
		last := len(e.subs[uri]) == 0
		if last {
			delete(e.subs, uri)
		}
		e.mu.Unlock()
		if last {
			ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTime)
			_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodUnsubscribe, Params: uriParams(uri)}, nil)
			cancel()
		}
	}
}

// forward is a Listener that passes on notifications and refuses requests.
type forward func(method string, params json.RawMessage)

// Notification implements upstream.Listener.
func (f forward) Notification(method string, params json.RawMessage) { f(method, params) }

// Request implements upstream.Listener.
func (f forward) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}
