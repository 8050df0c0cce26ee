package owner

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/tasks"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/trace"
	"erlmcp.dev/shared/upstream"
)

// relayed is a modern client's request that a stateful server works on. When a legacy server asks the client
// something meanwhile, the client is answered input_required, the call waits here, and the client's retry
// brings the answer (specification 2026-07-28, mrtr). It implements upstream.Listener.
type relayed struct {
	guest     *guest
	principal string
	id        string // names the call while it waits
	method    string
	level     string // of the log messages that the client asked for; empty: none
	declare   json.RawMessage
	stream    *stream
	cancel    context.CancelCauseFunc
	trace     trace.Origin
	keys      string // begins the keys of inputs
	key       *keyed // nil where the client named none; a call under a key goes on when its client goes

	mu     sync.Mutex
	inputs []*input // asked for and not answered, oldest first
	asked  int
	task   *tasks.Task // nil unless the call became one
	reply  upstream.Reply
	done   time.Time // when the call ended; zero before
	cut    bool      // it ended because this process stops
}

// input is one thing that the server wants of the client.
type input struct {
	key     string
	method  string
	params  json.RawMessage
	waiting chan answer
}

// Outcome ends one round of a modern client's request.
type Outcome struct {
	// Message is the JSON-RPC response.
	Message []byte
	// Waiting names the call that waits for input, if it does.
	Waiting string
	// Task is the id of the task that the call became, if it did.
	Task string
	// Conversation names the conversation with a server that made a task of its own of the call, if it did.
	Conversation string
}

// Relayed is a modern client's request on its way to a server.
type Relayed struct {
	Principal, Server string
	Message           *jsonrpc.Message
	// Resume names the waiting call that the request continues; empty for a new one.
	Resume string
	// Tasks says that the client takes a task in place of the answer.
	Tasks bool
	// Conversation is the one that a request about a task of the server's own must reach; else empty.
	Conversation string
}

// Relay carries out a modern client's request at a server, or continues one that waits for input. What comes before
// the answer goes to send. Ending ctx cancels the request, unless it waits for input or became a task.
func (o *Owner) Relay(ctx context.Context, req Relayed, send func([]byte) error) (Outcome, error) {
	m := req.Message
	if req.Resume != "" {
		return o.guests.resume(ctx, req, send)
	}
	if req.Conversation != "" {
		return o.guests.aboutTask(ctx, req)
	}
	o.mu.Lock()
	stopped := o.stopped
	o.mu.Unlock()
	switch {
	case stopped:
		return Outcome{}, ErrStopped
	case o.config.Ready() != nil:
		return Outcome{}, ErrNotReady
	}
	key, refused := o.keyed(req.Principal, req.Server, m.Method, m.Params)
	if refused != nil {
		return respond(m, failed(refused)), nil
	}
	meta := jsonrpc.Get(m.Params, "_meta")
	capabilities := jsonrpc.Get(meta, mcp.MetaCapabilities)
	e, refused := o.guests.guest(req.Principal, req.Server, capabilities, jsonrpc.Get(meta, mcp.MetaClientInfo))
	if refused != nil {
		return respond(m, failed(refused)), nil
	}
	if m.Method == mcp.MethodListen {
		return Outcome{}, e.listen(ctx, m, send)
	}
	r := newRelayed(e, req.Principal, m)
	r.key, r.trace = key, trace.OriginOf(ctx)
	if refused := r.begin(m); refused != nil {
		return respond(m, failed(refused)), nil
	}
	return r.round(ctx, req, send)
}

func respond(m *jsonrpc.Message, reply upstream.Reply) Outcome {
	if reply.Error != nil {
		return Outcome{Message: jsonrpc.ErrorResponse(m.ID, era.ErrorToModern(reply.Error))}
	}
	return Outcome{Message: jsonrpc.Response(m.ID, reply.Result)}
}

func newRelayed(e *guest, principal string, m *jsonrpc.Message) *relayed {
	level, _ := jsonrpc.GetString(m.Params, "_meta", mcp.MetaLogLevel)
	return &relayed{
		guest: e, principal: principal, id: rand.Text(), method: m.Method, level: level,
		declare: jsonrpc.Get(m.Params, "_meta", mcp.MetaCapabilities), stream: newStream(""),
	}
}

// begin starts the call.
func (r *relayed) begin(m *jsonrpc.Message) *jsonrpc.Error {
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(r.trace.In(context.Background()))
	e := r.guest
	g := e.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if g.closed || len(e.calls) >= e.maxCalls {
		r.cancel(nil)
		return errTooMany
	}
	e.calls[r] = struct{}{}
	e.used = time.Now()
	g.tasks.Go(func() { r.run(ctx, m.Params) })
	return nil
}

// run carries out the call, and in a task goes on with a modern server's questions until there is an answer.
func (r *relayed) run(ctx context.Context, params json.RawMessage) {
	defer r.cancel(nil)
	var reply upstream.Reply
	for {
		reply = r.try(ctx, params)
		r.mu.Lock()
		if r.task == nil || !era.InputRequired(reply.Result) || r.asked >= maxInputRounds {
			break
		}
		r.mu.Unlock()
		params = r.gather(ctx, params, reply.Result)
	}
	r.reply, r.done = reply, time.Now()
	task := r.task
	r.mu.Unlock()
	if era.InputRequired(reply.Result) && task != nil {
		reply = failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "the call asked for input more than %d times", maxInputRounds))
	}
	r.stream.end()
	if task != nil {
		r.endTask(ctx, task, reply)
	}
	e := r.guest
	e.mu.Lock()
	delete(e.calls, r)
	e.used = time.Now()
	e.mu.Unlock()
}

// try carries out the call once.
func (r *relayed) try(ctx context.Context, params json.RawMessage) upstream.Reply {
	o := r.guest.guests.owner
	var reply upstream.Reply
	err := upstream.ErrNotSent
	if s := o.config.Catalog.Current().Server(r.guest.key.server); s != nil {
		reply, err = r.key.once(ctx, func(ctx context.Context) (upstream.Reply, error) { return r.call(ctx, s, r.method, params) })
	}
	switch {
	case err == nil && reply.Error == nil && jsonrpc.Get(reply.Result, "resultType") == nil: // kept from a legacy client's call
		reply.Result = era.ResultToModern(r.method, reply.Result, nil)
		return reply
	case err == nil:
		return reply
	case errors.Is(context.Cause(ctx), ErrStopped):
		r.mu.Lock()
		r.cut = true
		r.mu.Unlock()
	case errors.Is(context.Cause(ctx), errNoInput):
		return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "the call was cancelled: its client brought no input within %s", o.config.InputWait))
	case context.Cause(ctx) == nil:
		o.log.WarnContext(ctx, "call failed", "server", r.guest.key.server, "method", r.method, "error", err)
	}
	return failed(upstream.Explain(r.guest.key.server, err))
}

func (r *relayed) call(ctx context.Context, s *registryv1.CatalogServer, method string, params json.RawMessage) (upstream.Reply, error) {
	// Time that the client takes for its input counts apart: it is bounded by InputWait for each round.
	ctx, cancel := context.WithTimeout(ctx, callTimeout(s)+r.guest.guests.owner.config.InputWait)
	defer cancel()
	for attempt := 0; ; attempt++ {
		end, err := r.guest.slot.get(ctx)
		if err != nil {
			return upstream.Reply{}, err
		}
		request := upstream.Request{Method: method, Params: params}
		var reply upstream.Reply
		if o := r.guest.guests.owner; end.Modern {
			request.Headers = o.mirrored(r.guest.key.server, method, params)
			reply, err = o.config.Tracer.Call(ctx, r.guest.key.server, end, request, r)
		} else {
			request.Params = era.RequestToLegacy(params)
			if r.level != "" && end.Logging {
				r.guest.logEverything(ctx, end)
			}
			reply, err = o.callLegacy(ctx, end, r.guest.key.server, request, r)
		}
		if err == nil {
			switch {
			case end.Modern:
			case reply.Error == nil:
				reply.Result = era.ResultToModern(method, reply.Result, nil)
			default:
				reply.Result, reply.Error = era.URLsRequired(reply.Error, r.declare)
			}
			return reply, nil
		}
		if end.broken(err) {
			r.guest.slot.drop(end)
		}
		if !errors.Is(err, upstream.ErrSessionGone) || attempt > 0 {
			return reply, err
		}
	}
}

// Notification implements upstream.Listener.
func (r *relayed) Notification(method string, params json.RawMessage) {
	switch method {
	case mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged, mcp.MethodResourceUpdated:
		guestListener{r.guest}.Notification(method, params)
		return
	case mcp.MethodMessage:
		if level, _ := jsonrpc.GetString(params, "level"); r.level == "" || slices.Index(mcp.LogLevels, level) < slices.Index(mcp.LogLevels, r.level) {
			return
		}
	case mcp.MethodProgress:
	default:
		return // nothing else may stand on a modern request's stream
	}
	if r.inTask() == nil && !r.stream.full() { // a task has no such stream
		r.stream.put(event{message: jsonrpc.Request(nil, method, params)})
	}
}

// Request implements upstream.Listener: the server asks, and waits until a retry of the client brings the answer.
func (r *relayed) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	need := capabilityFor(method)
	switch {
	case method == mcp.MethodPing:
		return json.RawMessage("{}"), nil
	case need == "" || jsonrpc.Get(r.declare, need) == nil:
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the client can't be asked for this; Method not found: %s", method)
	}
	if mode, _ := jsonrpc.GetString(params, "mode"); method == mcp.MethodElicit && mode == "url" && jsonrpc.Get(r.declare, "elicitation", "url") == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client can't be asked to visit a URL")
	}
	in := r.want(method, params)
	if in == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the call asked for input more than %d times", maxInputRounds)
	}
	defer r.forget(ctx, in)
	r.stream.put(event{}) // wakes the round
	r.tell(ctx)
	late := time.NewTimer(r.guest.guests.owner.config.InputWait)
	defer late.Stop()
	select {
	case a := <-in.waiting:
		return a.result, a.err
	case <-late.C:
		r.cancel(errNoInput)
	case <-ctx.Done():
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer in time")
}

// want notes that the server wants something of the client; nil where it wanted too much already.
func (r *relayed) want(method string, params json.RawMessage) *input {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == maxInputRounds {
		return nil
	}
	r.asked++
	in := &input{key: fmt.Sprintf("%sinput_%d", r.keys, r.asked), method: method, params: params, waiting: make(chan answer, 1)}
	r.inputs = append(r.inputs, in)
	return in
}

// forget undoes want: the input came, or the server no longer wants it.
func (r *relayed) forget(ctx context.Context, in *input) {
	r.mu.Lock()
	r.inputs = slices.DeleteFunc(r.inputs, func(other *input) bool { return other == in })
	r.mu.Unlock()
	r.tell(ctx)
}

// errNoInput: the client never came back with the input that the call waits for.
var errNoInput = errors.New("the client brought no input in time")

// round passes on what the call brings until it is answered, wants input, or became a task.
func (r *relayed) round(ctx context.Context, req Relayed, send func([]byte) error) (Outcome, error) {
	reader := r.stream.attach()
	defer reader.detach()
	m := req.Message
	promote := r.promotion(req)
	defer promote.stop()
	for {
		events := reader.next(ctx)
		for _, e := range events {
			if e.message == nil {
				continue
			}
			if err := send(e.message); err != nil {
				r.left(err)
				return Outcome{}, err
			}
		}
		r.mu.Lock()
		done, reply, wants, cut := !r.done.IsZero(), r.reply, len(r.inputs) > 0, r.cut
		r.mu.Unlock()
		switch {
		case done && cut:
			return Outcome{}, ErrHandedOver
		case done:
			return r.answered(m, reply), nil
		case wants:
			return r.wait(m)
		case ctx.Err() != nil:
			r.left(context.Cause(ctx))
			return Outcome{}, ctx.Err()
		case len(events) == 0:
			return Outcome{}, errors.New("the request was continued elsewhere")
		case promote.due():
			if outcome, ok := r.promote(ctx, req); ok {
				return outcome, nil
			}
		}
	}
}

// left cancels the call of a client that went away, unless it can come back with the call's key.
func (r *relayed) left(cause error) {
	if r.key == nil {
		r.cancel(cause)
	}
}

// answered is the end of the call. A task that a server of programs made is known to this conversation only.
func (r *relayed) answered(m *jsonrpc.Message, reply upstream.Reply) Outcome {
	outcome := respond(m, reply)
	if era.TaskCreated(reply.Result) {
		outcome.Conversation = r.guest.key.capabilities
		r.guest.keep(reply.Result)
	}
	return outcome
}

// wait leaves the call to wait for input, and tells the client what for.
func (r *relayed) wait(m *jsonrpc.Message) (Outcome, error) {
	g := r.guest.guests
	g.mu.Lock()
	full := g.closed || len(g.waiting) >= maxWaiting
	if !full {
		g.waiting[r.id] = r
	}
	g.mu.Unlock()
	if full {
		r.cancel(errNoInput)
		return respond(m, failed(errTooMany)), nil
	}
	var result jsonrpc.Object
	result.Set("resultType", jsonrpc.String(mcp.ResultInputRequired))
	if inputs := r.Inputs(); inputs != nil { // else they came or went meanwhile; the retry continues the call
		result.Set("inputRequests", inputs)
	}
	return Outcome{Message: jsonrpc.Response(m.ID, result.JSON()), Waiting: r.id}, nil
}

// Inputs implements tasks.Call: the requests to the client that wait for an answer.
func (r *relayed) Inputs() json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.inputs) == 0 {
		return nil
	}
	var requests jsonrpc.Object
	for _, in := range r.inputs {
		var request jsonrpc.Object
		request.Set("method", jsonrpc.String(in.method))
		if in.params != nil {
			request.Set("params", in.params)
		}
		requests.Set(in.key, request.JSON())
	}
	return requests.JSON()
}

// Answer implements tasks.Call: it hands over the client's answers. Inputs that are missing stay asked for.
func (r *relayed) Answer(responses json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missing []*input
	for _, in := range r.inputs {
		if response := jsonrpc.Get(responses, in.key); len(response) > 0 && response[0] == '{' {
			in.waiting <- answer{result: response}
		} else {
			missing = append(missing, in)
		}
	}
	r.inputs = missing
}

// resume continues a call that waits, with the input that the client's retry brings. Inputs that are missing
// are asked for again.
func (g *guests) resume(ctx context.Context, req Relayed, send func([]byte) error) (Outcome, error) {
	g.mu.Lock()
	r := g.waiting[req.Resume]
	if r != nil && (r.principal != req.Principal || r.guest.key.server != req.Server) {
		r = nil
	}
	if r != nil {
		delete(g.waiting, req.Resume)
	}
	g.mu.Unlock()
	if r == nil {
		return respond(req.Message, failed(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the call that this requestState continues no longer waits; call again without it"))), nil
	}
	r.Answer(jsonrpc.Get(req.Message.Params, "inputResponses"))
	return r.round(ctx, req, send)
}
