package engine

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// MaxSubscriptions is how many resources one subscriptions/listen may name.
const MaxSubscriptions = 1000

// listen serves subscriptions/listen until ctx ends (specification 2026-07-28, subscriptions). Changes of lists
// come from the catalogue, updates of resources from their servers.
func (e *Engine) listen(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, view *catalog.View, out Stream) Reply {
	wanted, r := readWanted(m.Params)
	if r != nil {
		return failure(m.ID, r.status, r.err)
	}
	if wanted.tasks != nil && !env.tasks {
		return failure(m.ID, http.StatusBadRequest, mcp.NoTasks())
	}
	servers := map[string][]string{} // resource URIs by server
	var honoured []string
	for _, uri := range wanted.resources {
		if server, ok := view.ServerOf(uri); ok && e.tellsUpdates(server) {
			servers[server] = append(servers[server], uri)
			honoured = append(honoured, uri)
		}
	}
	changed := e.changes.listen(c.View)
	defer e.changes.leave(changed)
	updated := &updates{signal: make(chan struct{}, 1)}
	var followers sync.WaitGroup
	defer followers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	s := subscription{id: m.ID, out: out}
	news := newTaskNews()
	var followed []func()
	tasks := e.followTasks(ctx, c, m.Params, view, wanted.tasks, news, func(f func()) { followed = append(followed, f) })
	if s.acknowledge(wanted.lists, honoured, tasks) != nil {
		return Reply{}
	}
	for _, f := range followed {
		followers.Go(f)
	}
	for server, uris := range servers {
		followers.Go(func() { e.followResources(ctx, c, m, server, uris, updated) })
	}
	for {
		select {
		case <-ctx.Done():
			return Reply{}
		case <-e.config.Draining.Done():
			return success(m.ID, s.closing())
		case <-changed.signal:
			for i, is := range changed.take() {
				if is && wanted.lists[i] && s.notify(catalog.ChangeMethods[i], jsonrpc.Object{}) != nil {
					return Reply{}
				}
			}
		case <-updated.signal:
			for _, uri := range updated.take() {
				var params jsonrpc.Object
				params.Set("uri", jsonrpc.String(uri))
				if s.notify(mcp.MethodResourceUpdated, params) != nil {
					return Reply{}
				}
			}
		case <-news.signal:
			for _, state := range news.take() {
				params, _ := jsonrpc.ParseObject(state)
				if s.notify(mcp.MethodTasks, params) != nil {
					return Reply{}
				}
			}
		}
	}
}

// tellsUpdates reports whether a server can tell that a resource changed: one that keeps no session and is of the
// legacy era has no stream to do so.
func (e *Engine) tellsUpdates(name string) bool {
	s := e.config.Catalog.Current().Server(name)
	return s != nil && !(Sessionless(s) && legacyOnly(s)) && s.GetServer().GetGrpc() == nil
}

// wanted is what a client listens for.
type wanted struct {
	lists     catalog.Changes
	resources []string
	tasks     []string // nil where none are asked for
}

func readWanted(params json.RawMessage) (wanted, *refusal) {
	var w wanted
	notifications := jsonrpc.Get(params, "notifications")
	if len(notifications) == 0 || notifications[0] != '{' {
		return w, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, `params needs "notifications", an object`)
	}
	for i, key := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		w.lists[i] = string(jsonrpc.Get(notifications, key)) == "true"
	}
	if raw := jsonrpc.Get(notifications, "resourceSubscriptions"); raw != nil {
		if err := json.Unmarshal(raw, &w.resources); err != nil {
			return w, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "notifications.resourceSubscriptions must be an array of URIs")
		}
		if len(w.resources) > MaxSubscriptions {
			return w, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "at most %d resources can be subscribed to at once", MaxSubscriptions)
		}
	}
	if raw := jsonrpc.Get(notifications, "taskIds"); raw != nil {
		if err := json.Unmarshal(raw, &w.tasks); err != nil {
			return w, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "notifications.taskIds must be an array of task ids")
		}
		if len(w.tasks) > MaxTaskSubscriptions {
			return w, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "at most %d tasks can be subscribed to at once", MaxTaskSubscriptions)
		}
	}
	return w, nil
}

// subscription is one open subscriptions/listen.
type subscription struct {
	id  json.RawMessage
	out Stream
}

// notify sends a notification that names the listen request it belongs to.
func (s subscription) notify(method string, params jsonrpc.Object) error {
	var meta jsonrpc.Object
	meta.Set(mcp.MetaSubscriptionID, s.id)
	params.Set("_meta", meta.JSON())
	return s.out.Send("", jsonrpc.Request(nil, method, params.JSON()))
}

func (s subscription) acknowledge(lists catalog.Changes, resources, tasks []string) error {
	var honoured, params jsonrpc.Object
	for i, key := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		if lists[i] {
			honoured.Set(key, json.RawMessage("true"))
		}
	}
	if len(resources) > 0 {
		honoured.Set("resourceSubscriptions", stringArray(resources))
	}
	if len(tasks) > 0 {
		honoured.Set("taskIds", stringArray(tasks))
	}
	params.Set("notifications", honoured.JSON())
	return s.notify(mcp.MethodAcknowledged, params)
}

// closing is the result of a subscription that the gateway ends.
func (s subscription) closing() json.RawMessage {
	var meta, result jsonrpc.Object
	meta.Set(mcp.MetaSubscriptionID, s.id)
	result.Set("resultType", jsonrpc.String(mcp.ResultComplete))
	result.Set("_meta", meta.JSON())
	return result.JSON()
}

// updates are the resources that changed and were not told of yet; at most as many as are subscribed to.
type updates struct {
	signal chan struct{}

	mu  sync.Mutex
	set map[string]struct{}
}

func (u *updates) add(uri string) {
	u.mu.Lock()
	if u.set == nil {
		u.set = map[string]struct{}{}
	}
	u.set[uri] = struct{}{}
	u.mu.Unlock()
	select {
	case u.signal <- struct{}{}:
	default:
	}
}

func (u *updates) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	uris := make([]string, 0, len(u.set))
	for uri := range u.set {
		uris = append(uris, uri)
	}
	u.set = nil
	return uris
}

// followResources listens at a server for updates of some resources until ctx ends.
func (e *Engine) followResources(ctx context.Context, c Client, m *jsonrpc.Message, server string, uris []string, to *updates) {
	var notifications jsonrpc.Object
	notifications.Set("resourceSubscriptions", stringArray(uris))
	params := jsonrpc.With(m.Params, notifications.JSON(), "notifications")
	known := map[string]bool{}
	for _, uri := range uris {
		known[uri] = true
	}
	heard := updateListener{known, to}
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		s := e.config.Catalog.Current().Server(server)
		if s == nil {
			return
		}
		var err error
		if Sessionless(s) {
			err = e.listenServer(ctx, s, params, heard)
		} else {
			err = e.listenOwner(ctx, c, s, params, heard)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 100 * time.Millisecond
		}
		e.config.Log.InfoContext(ctx, "a server's resource updates broke off; listening again", "server", server, "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, 30*time.Second)
	}
}

func (e *Engine) listenServer(ctx context.Context, s *registryv1.CatalogServer, params json.RawMessage, heard updateListener) error {
	peer, done, err := e.config.Servers.Peer(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	_, err = peer.Call(ctx, upstream.Request{Method: mcp.MethodListen, Params: params}, heard)
	return err
}

func (e *Engine) listenOwner(ctx context.Context, c Client, s *registryv1.CatalogServer, params json.RawMessage, heard updateListener) error {
	name := s.GetServer().GetName()
	stream, err := e.atOwner(ctx, e.config.Owners.Home(c.Principal.ID, name), &sessionv1.CallRequest{
		Principal: &sessionv1.Principal{Id: c.Principal.ID},
		Server:    name,
		Message:   jsonrpc.Request(json.RawMessage(`"listen"`), mcp.MethodListen, params),
	})
	if err != nil {
		return err
	}
	defer stream.end()
	for {
		response, err := stream.next()
		if err != nil {
			return err
		}
		if message, err := jsonrpc.Parse(response.GetMessage()); err == nil && message.IsNotification() {
			heard.Notification(message.Method, message.Params)
		}
	}
}

// updateListener takes a server's notifications of updated resources.
type updateListener struct {
	known map[string]bool
	to    *updates
}

// Notification implements upstream.Listener.
func (l updateListener) Notification(method string, params json.RawMessage) {
	if uri, ok := jsonrpc.GetString(params, "uri"); ok && method == mcp.MethodResourceUpdated && l.known[uri] {
		l.to.add(uri)
	}
}

// Request implements upstream.Listener.
func (l updateListener) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}
