package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// MaxTaskSubscriptions is how many tasks one subscriptions/listen may name.
const MaxTaskSubscriptions = 100

// taskNews are the tasks that changed and were not told of yet, each in its newest state.
type taskNews struct {
	signal chan struct{}

	mu     sync.Mutex
	told   map[string]string // the state that was added last, by the client's task id, as far as it tells news
	states map[string]json.RawMessage
}

func newTaskNews() *taskNews {
	return &taskNews{signal: make(chan struct{}, 1), told: map[string]string{}, states: map[string]json.RawMessage{}}
}

// add tells of a task's state, unless it was told of just that. token is the client's id of the task.
func (n *taskNews) add(token string, state json.RawMessage) {
	o, ok := jsonrpc.ParseObject(state)
	if !ok {
		return
	}
	o.Delete("resultType") // of a result, and no part of the task
	o.Delete("_meta")
	o.Set("taskId", jsonrpc.String(token))
	open, _ := jsonrpc.ParseObject(o.Get("inputRequests"))
	mark := fmt.Sprint(string(o.Get("status")), string(o.Get("lastUpdatedAt")), open.Keys())
	n.mu.Lock()
	news := n.told[token] != mark
	if news {
		n.told[token] = mark
		n.states[token] = o.JSON()
	}
	n.mu.Unlock()
	if !news {
		return
	}
	select {
	case n.signal <- struct{}{}:
	default:
	}
}

func (n *taskNews) take() []json.RawMessage {
	n.mu.Lock()
	defer n.mu.Unlock()
	states := make([]json.RawMessage, 0, len(n.states))
	for _, state := range n.states {
		states = append(states, state)
	}
	clear(n.states)
	return states
}

// ended reports whether a task's state is final.
func ended(state json.RawMessage) bool {
	switch s, _ := jsonrpc.GetString(state, "status"); s {
	case "completed", "failed", "cancelled":
		return true
	}
	return false
}

// followTasks follows the tasks that a client named until ctx ends, and gives the ids that are followed.
func (e *Engine) followTasks(ctx context.Context, c Client, params json.RawMessage, view *catalog.View, tokens []string, to *taskNews, follow func(func())) (honoured []string) {
	type place struct{ server, address, conversation string }
	servers := map[place]map[string]string{} // the clients' ids by the server's own, by where they are
	seen := map[string]bool{}
	for _, token := range tokens {
		h, ok := e.visibleTask(token, c, view)
		if !ok || seen[token] {
			continue
		}
		seen[token] = true
		honoured = append(honoured, token)
		if h.Owned {
			follow(func() { e.followOwnedTask(ctx, c, h, token, to) })
			continue
		}
		at := place{h.Server, h.Address, h.Conversation}
		if servers[at] == nil {
			servers[at] = map[string]string{}
		}
		servers[at][h.ID] = token
	}
	for at, ids := range servers {
		f := &serverTasks{
			engine: e, client: c, handle: taskHandle{Server: at.server, Address: at.address, Conversation: at.conversation},
			params: params, ids: ids, told: map[string]bool{}, to: to,
		}
		follow(func() { f.follow(ctx) })
	}
	return honoured
}

// watchTime is how long a task is watched at an owner before it is looked for anew: the owner may hang.
const watchTime = 30 * time.Second

// followOwnedTask watches a task of the session service until it has ended, at whichever owner it is.
func (e *Engine) followOwnedTask(ctx context.Context, c Client, h taskHandle, token string, to *taskNews) {
	principal := &sessionv1.Principal{Id: c.Principal.ID}
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		err := e.atTaskOwner(ctx, principal, h, func(owner sessionv1.TaskServiceClient) error {
			ctx, cancel := context.WithTimeout(ctx, watchTime)
			defer cancel()
			stream, err := owner.WatchTask(ctx, &sessionv1.WatchTaskRequest{Principal: principal, TaskId: h.ID})
			for err == nil {
				var response *sessionv1.WatchTaskResponse
				if response, err = stream.Recv(); err == nil {
					to.add(token, response.GetTask())
					wait = 100 * time.Millisecond
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		})
		if err == nil { // it has ended, and its owner may have gone before it said so
			var state json.RawMessage
			if state, _, err = e.taskState(ctx, principal, h.ID); err == nil {
				to.add(token, state)
				if ended(state) {
					return
				}
			}
		}
		if status.Code(err) == codes.NotFound || !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// pause waits about d; false when ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d + rand.N(d)):
		return true
	}
}

// serverTasks follows a server's own tasks. Servers need not tell of changes, and one that does may have told before
// it was listened to: so each task is asked for too, seldom where the server tells.
type serverTasks struct {
	engine *Engine
	client Client
	handle taskHandle // without an ID
	params json.RawMessage
	ids    map[string]string // the client's id by the server's
	to     *taskNews

	mu   sync.Mutex
	told map[string]bool // the server said that it would tell of these
}

// How often a server's tasks are asked for.
const (
	pollTask     = time.Second
	pollToldTask = 30 * time.Second
)

func (f *serverTasks) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	listening.Go(func() { f.listen(ctx) })
	open := map[string]time.Time{} // when to ask next
	for id := range f.ids {
		open[id] = time.Time{}
	}
	for len(open) > 0 {
		for id, due := range open {
			if time.Now().Before(due) {
				continue
			}
			if f.ask(ctx, id) {
				delete(open, id)
				continue
			}
			open[id] = time.Now().Add(f.every(id))
		}
		if !pause(ctx, pollTask/2) {
			return
		}
	}
	<-ctx.Done() // a server may tell of what it forgot to mention
}

func (f *serverTasks) every(id string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told[id] {
		return pollToldTask
	}
	return pollTask
}

// ask asks for a task's state. over is true where it has ended or is unknown.
func (f *serverTasks) ask(ctx context.Context, id string) (over bool) {
	ctx, cancel := context.WithTimeout(ctx, taskTime)
	defer cancel()
	s := f.engine.config.Catalog.Current().Server(f.handle.Server)
	if s == nil {
		return true
	}
	var about jsonrpc.Object
	about.Set("taskId", jsonrpc.String(id))
	about.Set("_meta", jsonrpc.Get(f.params, "_meta"))
	answer, refused, _ := f.engine.askServer(ctx, f.client, s, f.handle, mcp.MethodTasksGet, about.JSON())
	if refused != nil {
		return false
	}
	if answer.Error != nil {
		return true
	}
	f.to.add(f.ids[id], answer.Result)
	return ended(answer.Result)
}

// listen listens at the server until ctx ends. One that can't tell is asked only.
func (f *serverTasks) listen(ctx context.Context) {
	ids := make([]string, 0, len(f.ids))
	for id := range f.ids {
		ids = append(ids, id)
	}
	var notifications jsonrpc.Object
	notifications.Set("taskIds", stringArray(ids))
	params := jsonrpc.With(f.params, notifications.JSON(), "notifications")
	wait := time.Second
	for {
		s := f.engine.config.Catalog.Current().Server(f.handle.Server)
		if s == nil || !Sessionless(s) {
			return
		}
		refused := f.listenOnce(ctx, s, params)
		f.mu.Lock()
		clear(f.told)
		f.mu.Unlock()
		if refused || !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// listenOnce listens until the server ends it. refused is true where the server said that it never will tell.
func (f *serverTasks) listenOnce(ctx context.Context, s *registryv1.CatalogServer, params json.RawMessage) (refused bool) {
	peer, done, err := f.engine.config.Servers.Peer(ctx, s)
	if err != nil {
		return false
	}
	defer done()
	answer, err := peer.Call(ctx, upstream.Request{Method: mcp.MethodListen, Params: params}, f)
	return err == nil && answer.Error != nil
}

// Notification implements upstream.Listener.
func (f *serverTasks) Notification(method string, params json.RawMessage) {
	switch method {
	case mcp.MethodAcknowledged:
		f.mu.Lock()
		defer f.mu.Unlock()
		jsonrpc.Elements(jsonrpc.Get(params, "notifications", "taskIds"), func(raw []byte) bool {
			if id, ok := text(raw); ok && f.ids[id] != "" {
				f.told[id] = true
			}
			return true
		})
	case mcp.MethodTasks:
		id, _ := jsonrpc.GetString(params, "taskId")
		if token := f.ids[id]; token != "" {
			f.to.add(token, params)
		}
	}
}

// Request implements upstream.Listener.
func (f *serverTasks) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}

var _ upstream.Listener = (*serverTasks)(nil)
