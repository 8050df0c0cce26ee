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

// updated tells those who listen to a resource that it, or a part of it, changed.
func (e *guest) updated(subscribed, uri string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for to := range e.subs[subscribed] {
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
	updates := make(chan string, 64)
	var lost <-chan struct{}
	defer e.leave(end, uris, updates)
	for _, uri := range uris {
		e.join(uri, updates)
		if end.Modern {
			lost = e.watch(end, uri, m.Params)
			continue
		}
		if _, err := end.Call(ctx, upstream.Request{Method: mcp.MethodSubscribe, Params: uriParams(uri)}, nil); err != nil {
			if end.broken(err) {
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
		case <-lost:
			return fmt.Errorf("%w: the server ended the subscription", upstream.ErrLost)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watches are what a modern server was asked to tell, once for each resource however many listen: of several
// subscriptions to one resource in a conversation, servers are known to serve the newest only, and to end it with any
// of the others. So one goes on when nobody listens any more, until there are too many.
type watches struct {
	peer  upstream.Peer
	stops map[string]context.CancelFunc // by URI
	lost  chan struct{}                 // closed when one of them ended although it was wanted
}

// watch has a modern server asked to tell of a resource, unless it is. params are those of a listener.
func (e *guest) watch(end End, uri string, params json.RawMessage) (lost <-chan struct{}) {
	e.guests.mu.Lock()
	defer e.guests.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watches == nil || e.watches.peer != end.Peer {
		e.watches = &watches{peer: end.Peer, stops: map[string]context.CancelFunc{}, lost: make(chan struct{})}
	}
	w := e.watches
	if w.stops[uri] != nil || e.guests.closed {
		return w.lost
	}
	if len(w.stops) >= maxSubs {
		for other, stop := range w.stops {
			if len(e.subs[other]) == 0 {
				stop()
				delete(w.stops, other)
			}
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stops[uri] = stop
	one, _ := json.Marshal([]string{uri}) // of a string: it does not fail
	params = jsonrpc.With(params, one, "notifications", "resourceSubscriptions")
	e.guests.tasks.Go(func() {
		defer stop()
		_, err := end.Call(ctx, upstream.Request{Method: mcp.MethodListen, Params: params}, forward(func(method string, params json.RawMessage) {
			if changed, ok := jsonrpc.GetString(params, "uri"); ok && method == mcp.MethodResourceUpdated {
				e.updated(uri, changed)
			}
		}))
		if ctx.Err() != nil {
			return
		}
		if err != nil && end.broken(err) {
			e.slot.drop(end)
		}
		e.unwatch(w)
	})
	return w.lost
}

// unwatch ends all watches of a conversation in which one was lost; who listens is told, and listens anew.
func (e *guest) unwatch(w *watches) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watches != w {
		return
	}
	e.watches = nil
	close(w.lost)
	for _, stop := range w.stops {
		stop()
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
		if last && !end.Modern {
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
