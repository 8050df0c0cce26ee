package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/tasks"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// A call that takes long becomes a task where its client takes tasks (SEP-2663): the client is answered with the
// task, and the call goes on here.

// maxRepeated is the longest request that is kept to be carried out again by another owner, in bytes.
const maxRepeated = 64 << 10

// createTime is how long it may take to make a task.
const createTime = 2 * time.Second

// promotion tells when a round has taken so long that the call should become a task. The zero promotion never does.
type promotion struct {
	at    time.Time
	timer *time.Timer
}

// promotion begins to count the time of a round.
func (r *relayed) promotion(req Relayed) *promotion {
	after := r.guest.guests.owner.promoteAfter(req.Server)
	if after <= 0 || !req.Tasks || r.method != mcp.MethodToolsCall {
		return &promotion{}
	}
	return &promotion{
		at:    time.Now().Add(after),
		timer: time.AfterFunc(after, func() { r.stream.put(event{}) }), // wakes the round
	}
}

// promoteAfter is how long a call of a server takes at least that becomes a task; 0 for never.
func (o *Owner) promoteAfter(server string) time.Duration {
	if d := o.config.Catalog.Current().Server(server).GetServer().GetPromoteAfter(); d != nil {
		return d.AsDuration()
	}
	return o.config.PromoteAfter
}

// due reports, once, that the time has come.
func (p *promotion) due() bool {
	if p.timer == nil || time.Now().Before(p.at) {
		return false
	}
	p.timer = nil
	return true
}

func (p *promotion) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// promote makes a task of the call. ok is false where it goes on without: the answer came first, or no task can be
// kept now.
func (r *relayed) promote(ctx context.Context, req Relayed) (outcome Outcome, ok bool) {
	o := r.guest.guests.owner
	server := o.config.Catalog.Current().Server(req.Server)
	if server == nil {
		return Outcome{}, false
	}
	spec := tasks.Spec{
		Principal: req.Principal, Server: req.Server,
		// The call may run until then, and wait for its client's input; behind that its outcome is kept.
		TTL: callTimeout(server) + o.config.InputWait + o.config.KeepTasks,
	}
	if len(req.Message.Params) <= maxRepeated && o.repeatable(req.Server, req.Message.Params) && r.unasked() {
		spec.Request = jsonrpc.Request(req.Message.ID, req.Message.Method, req.Message.Params)
	}
	// A store that is slow must not keep the client from its answer.
	creating, cancel := context.WithTimeout(ctx, createTime)
	defer cancel()
	t, err := o.tasks.Create(creating, spec, r)
	if err != nil {
		if !errors.Is(err, store.ErrLimit) && ctx.Err() == nil {
			o.log.WarnContext(ctx, "a slow call could not become a task; its client waits for the answer", "server", req.Server, "error", err)
		}
		return Outcome{}, false
	}
	r.mu.Lock()
	answered := !r.done.IsZero()
	if !answered {
		r.task = t
	}
	r.mu.Unlock()
	if answered {
		t.Discard(context.WithoutCancel(ctx))
		return Outcome{}, false
	}
	r.tell(ctx) // of what it asked for meanwhile
	created := jsonrpc.With(t.State(), jsonrpc.String(mcp.ResultTask), "resultType")
	for _, key := range []string{"inputRequests", "result", "error"} { // tasks/get has these
		created = jsonrpc.Without(created, key)
	}
	created = jsonrpc.With(created, jsonrpc.String(t.ID), "taskId")
	return Outcome{Message: jsonrpc.Response(req.Message.ID, created), Task: t.ID}, true
}

// repeatable reports whether a tool's call may be carried out again by the tool's annotations.
func (o *Owner) repeatable(server string, params json.RawMessage) bool {
	name, _ := jsonrpc.GetString(params, "name")
	tool := o.tool(server, name)
	if tool == nil {
		return false
	}
	hints := jsonrpc.Get(tool.JSON, "annotations")
	return string(jsonrpc.Get(hints, "readOnlyHint")) == "true" || string(jsonrpc.Get(hints, "idempotentHint")) == "true"
}

// unasked reports whether the client was asked nothing so far: what it answered would be lost in a repetition.
func (r *relayed) unasked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked == 0
}

func (r *relayed) inTask() *tasks.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.task
}

// tell has the task, if the call is one, show what the call wants of its client now.
func (r *relayed) tell(ctx context.Context) {
	t := r.inTask()
	if t == nil {
		return
	}
	if err := t.Refresh(ctx); err != nil && ctx.Err() == nil {
		r.guest.guests.owner.log.WarnContext(ctx, "a task's input requests could not be kept", "task", t.ID, "error", err)
	}
}

// endTask ends the task with its call's answer.
func (r *relayed) endTask(ctx context.Context, t *tasks.Task, reply upstream.Reply) {
	if reply.Error != nil {
		reply.Error = era.ErrorToModern(reply.Error)
	}
	if errors.Is(context.Cause(ctx), ErrStopped) {
		leaving, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		t.Leave(leaving, reply)
		return
	}
	t.Finish(reply)
}

// leaveTime is how long a process that stops takes to hand over a task.
const leaveTime = 5 * time.Second

// Cancel implements tasks.Call.
func (r *relayed) Cancel() { r.cancel(errCancelled) }

// gather asks a task's client for each input that a modern server wants, and gives the params of the retry. The
// server's keys need not be unique over the task's life; ours are.
func (r *relayed) gather(ctx context.Context, params, result json.RawMessage) json.RawMessage {
	wanted, _ := jsonrpc.ParseObject(jsonrpc.Get(result, "inputRequests"))
	asked := map[string]*input{}
	defer func() {
		for _, in := range asked {
			r.forget(ctx, in)
		}
	}()
	for _, key := range wanted.Keys() {
		method, _ := jsonrpc.GetString(wanted.Get(key), "method")
		if in := r.want(method, jsonrpc.Get(wanted.Get(key), "params")); in != nil {
			asked[key] = in
		}
	}
	r.tell(ctx)
	late := time.NewTimer(r.guest.guests.owner.config.InputWait)
	defer late.Stop()
	if len(asked) == 0 { // a server that only wants its state back, later
		late.Reset(time.Second)
	}
	var responses jsonrpc.Object
	for _, key := range wanted.Keys() {
		if asked[key] == nil {
			continue
		}
		select {
		case a := <-asked[key].waiting:
			responses.Set(key, a.result)
		case <-late.C:
			r.cancel(errNoInput)
			return params
		case <-ctx.Done():
			return params
		}
	}
	params = jsonrpc.With(params, responses.JSON(), "inputResponses")
	if state := jsonrpc.Get(result, "requestState"); state != nil {
		return jsonrpc.With(params, state, "requestState")
	}
	return jsonrpc.Without(params, "requestState")
}

// repeat carries out the request of a task that this owner adopted.
func (o *Owner) repeat(t *tasks.Task, principal, server string, request json.RawMessage) (tasks.Call, error) {
	m, err := jsonrpc.Parse(request)
	if err != nil {
		return nil, fmt.Errorf("the request of a task: %w", err)
	}
	meta := jsonrpc.Get(m.Params, "_meta")
	e, refused := o.guests.guest(principal, server, jsonrpc.Get(meta, mcp.MetaCapabilities), jsonrpc.Get(meta, mcp.MetaClientInfo))
	if refused != nil {
		return nil, refused
	}
	r := newRelayed(e, principal, &m)
	r.task = t
	r.keys = fmt.Sprintf("again_%d_", t.Epoch()) // what the owner before asked for had other keys
	if refused := r.begin(&m); refused != nil {
		return nil, refused
	}
	return r, nil
}

// Tasks are the tasks of this process.
func (o *Owner) Tasks() *tasks.Keeper { return o.tasks }
