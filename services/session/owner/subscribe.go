package owner

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// resource is one that the client subscribed to.
type resource struct {
	server string
	stop   context.CancelFunc // ends the listening at a modern server; nil at a legacy one
}

// setLevel keeps the client's log level and tells it to the servers that log by session.
func (s *session) setLevel(ctx context.Context, c *call) upstream.Reply {
	level, ok := jsonrpc.GetString(c.params, "level")
	if !ok || !slices.Contains(mcp.LogLevels, level) {
		return failed(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, `"level" must be one of %v`, mcp.LogLevels))
	}
	s.mu.Lock()
	s.level = level
	s.mu.Unlock()
	s.save(ctx, stateLevel, []byte(level))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, sl := range s.openSlots() {
		if end, ok := sl.current(); ok && !end.Modern && end.Logging {
			if _, err := end.Call(ctx, upstream.Request{Method: c.method, Params: c.params}, nil); err != nil {
				s.owner.log.InfoContext(ctx, "a server did not take the log level", "session", s.record.ID, "error", err)
			}
		}
	}
	return emptyResult
}

func (s *session) subscribe(ctx context.Context, c *call) upstream.Reply {
	uri, _ := jsonrpc.GetString(c.params, "uri")
	server := s.owner.config.Catalog.Current().Server(c.server)
	if server == nil {
		return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q was removed", c.server))
	}
	s.mu.Lock()
	old, full := s.subs[uri], len(s.subs) >= maxSubs
	s.mu.Unlock()
	if old != nil {
		return emptyResult
	}
	if full {
		return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "at most %d resources can be subscribed to", maxSubs))
	}
	sl, err := s.slot(server)
	if err != nil {
		return failed(upstream.Explain(c.server, err))
	}
	end, err := sl.get(ctx)
	if err != nil {
		return failed(upstream.Explain(c.server, err))
	}
	if !end.Modern {
		reply, err := s.call(ctx, c, server)
		if err != nil {
			return failed(upstream.Explain(c.server, err))
		}
		if reply.Error != nil {
			return reply
		}
	}
	s.keep(uri, c.server, end.Modern)
	s.saveSubs(ctx)
	return emptyResult
}

// keep notes a subscription, and at a modern server begins to listen. Of two that are made at once one stays.
func (s *session) keep(uri, server string, modern bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.subs[uri]; s.closed || old != nil && old.stop != nil {
		return
	}
	r := &resource{server: server}
	if modern {
		var listening context.Context
		listening, r.stop = context.WithCancel(s.ctx)
		s.tasks.Go(func() { s.listenModern(listening, server, uri) })
	}
	s.subs[uri] = r
}

// takeUp goes on with the subscriptions of an adopted session, whose conversations ended with the owner before.
func (s *session) takeUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	uris := map[string][]string{} // by server
	for uri, r := range s.subs {
		uris[r.server] = append(uris[r.server], uri)
	}
	for server, uris := range uris {
		s.tasks.Go(func() { s.takeUpAt(server, uris) })
	}
}

// hearOn opens the conversations that the owner before had: their servers may say something outside of calls, and a client
// that listens need not make a call that would open them.
func (s *session) hearOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.hearing {
		return
	}
	s.hearing = true
	for server := range s.before {
		s.tasks.Go(func() { s.takeUpAt(server, nil) })
	}
}

// takeUpAt opens the conversation with a server; to a legacy one opening says again what is subscribed to.
func (s *session) takeUpAt(name string, uris []string) {
	for wait := 100 * time.Millisecond; s.ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		server := s.owner.config.Catalog.Current().Server(name)
		if server == nil {
			return
		}
		sl, err := s.slot(server)
		if err != nil {
			return
		}
		if end, err := sl.get(s.ctx); err == nil {
			for _, uri := range uris {
				s.mu.Lock()
				still := s.subs[uri] != nil
				s.mu.Unlock()
				if end.Modern && still {
					s.keep(uri, name, true)
				}
			}
			return
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

func (s *session) unsubscribe(ctx context.Context, c *call) upstream.Reply {
	uri, _ := jsonrpc.GetString(c.params, "uri")
	s.mu.Lock()
	r := s.subs[uri]
	delete(s.subs, uri)
	sl := s.slots[c.server]
	s.mu.Unlock()
	if r != nil {
		s.saveSubs(ctx)
		if r.stop != nil {
			r.stop()
			return emptyResult
		}
	}
	if sl != nil {
		if end, ok := sl.current(); ok && !end.Modern {
			reply, err := end.Call(ctx, upstream.Request{Method: c.method, Params: c.params}, nil)
			if err == nil {
				return reply
			}
		}
	}
	return emptyResult // a server that is away holds no subscription
}

func (s *session) saveSubs(ctx context.Context) {
	s.mu.Lock()
	subs := make(map[string]string, len(s.subs))
	for uri, r := range s.subs {
		subs[uri] = r.server
	}
	s.mu.Unlock()
	value, err := json.Marshal(subs)
	if err == nil {
		s.save(ctx, stateSubs, value)
	}
}

// listenModern hears of a resource's updates at a modern server until ctx ends.
func (s *session) listenModern(ctx context.Context, name, uri string) {
	var notifications jsonrpc.Object
	list, _ := json.Marshal([]string{uri})
	notifications.Set("resourceSubscriptions", list)
	var params jsonrpc.Object
	params.Set("notifications", notifications.JSON())
	request := upstream.Request{
		Method: mcp.MethodListen,
		Params: era.RequestToModern(params.JSON(), era.Client{Capabilities: s.client.Load().Capabilities, Info: s.client.Load().Info}),
	}
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		server := s.owner.config.Catalog.Current().Server(name)
		if server == nil {
			return
		}
		if sl, err := s.slot(server); err == nil {
			if end, err := sl.get(ctx); err == nil {
				_, err = end.Call(ctx, request, updateListener{s, uri})
				if err != nil && end.broken(err) {
					sl.drop(end)
				}
			}
		}
		if time.Since(began) > time.Minute {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// updated tells the client that a resource changed. A legacy server may name a part of what was subscribed to.
func (s *session) updated(params json.RawMessage) {
	standingEmitter{s}.emit(jsonrpc.Request(nil, mcp.MethodResourceUpdated, params), true)
}

// updateListener takes a modern server's notifications for one resource.
type updateListener struct {
	session *session
	uri     string
}

// Notification implements upstream.Listener.
func (l updateListener) Notification(method string, params json.RawMessage) {
	if uri, _ := jsonrpc.GetString(params, "uri"); method == mcp.MethodResourceUpdated && uri == l.uri {
		l.session.updated(uriParams(uri))
	}
}

// Request implements upstream.Listener.
func (l updateListener) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}
