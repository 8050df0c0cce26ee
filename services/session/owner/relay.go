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
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// relayed is a modern client's request that a stateful server works on. When a legacy server asks the client
// something meanwhile, the client is answered input_required, the call waits here, and the client's retry
// brings the answer (specification 2026-07-28, mrtr). It implements upstream.Listener.
type relayed struct {
	guest   *guest
	id      string // names the call while it waits
	method  string
	level   string // of the log messages that the client asked for; empty: none
	declare json.RawMessage
	stream  *stream
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	inputs []*input // asked for and not answered, oldest first
	asked  int
	reply  upstream.Reply
	done   time.Time // when the call ended; zero before
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
}

// Relay carries out a modern client's request at a server that keeps state, or continues one that waits for
// input. What comes before the answer goes to send. Ending ctx cancels the request, unless it waits for input.
func (o *Owner) Relay(ctx context.Context, principal, server string, m *jsonrpc.Message, resume string, send func([]byte) error) (Outcome, error) {
	if resume != "" {
		return o.guests.resume(ctx, principal, server, m, resume, send)
	}
	meta := jsonrpc.Get(m.Params, "_meta")
	capabilities := jsonrpc.Get(meta, mcp.MetaCapabilities)
	e, refused := o.guests.guest(principal, server, capabilities, jsonrpc.Get(meta, mcp.MetaClientInfo))
	if refused != nil {
		return respond(m, failed(refused)), nil
	}
	if m.Method == mcp.MethodListen {
		return Outcome{}, e.listen(ctx, m, send)
	}
	r, refused := e.begin(m, capabilities)
	if refused != nil {
		return respond(m, failed(refused)), nil
	}
	return r.round(ctx, m, send)
}

func respond(m *jsonrpc.Message, reply upstream.Reply) Outcome {
	if reply.Error != nil {
		return Outcome{Message: jsonrpc.ErrorResponse(m.ID, era.ErrorToModern(reply.Error))}
	}
	return Outcome{Message: jsonrpc.Response(m.ID, reply.Result)}
}

// begin starts a call.
func (e *guest) begin(m *jsonrpc.Message, capabilities json.RawMessage) (*relayed, *jsonrpc.Error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	level, _ := jsonrpc.GetString(m.Params, "_meta", mcp.MetaLogLevel)
	r := &relayed{
		guest: e, id: rand.Text(), method: m.Method, level: level, declare: capabilities,
		stream: newStream(""), cancel: cancel,
	}
	g := e.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if g.closed || len(e.calls) >= maxGuestCalls {
		cancel(nil)
		return nil, errTooMany
	}
	e.calls[r] = struct{}{}
	e.used = time.Now()
	g.tasks.Go(func() { r.run(ctx, m.Method, m.Params) })
	return r, nil
}

// run carries out the call.
func (r *relayed) run(ctx context.Context, method string, params json.RawMessage) {
	defer r.cancel(nil)
	e := r.guest
	o := e.guests.owner
	var reply upstream.Reply
	err := upstream.ErrNotSent
	if s := o.config.Catalog.Current().Server(e.key.server); s != nil {
		reply, err = r.call(ctx, s, method, params)
	}
	if err != nil {
		if context.Cause(ctx) == nil {
			o.log.Warn("call failed", "server", e.key.server, "method", method, "error", err)
		}
		reply = failed(upstream.Explain(e.key.server, err))
	}
	e.mu.Lock()
	delete(e.calls, r)
	e.used = time.Now()
	e.mu.Unlock()
	r.mu.Lock()
	r.reply, r.done = reply, time.Now()
	r.mu.Unlock()
	r.stream.end()
}

func (r *relayed) call(ctx context.Context, s *registryv1.CatalogServer, method string, params json.RawMessage) (upstream.Reply, error) {
	// Time that the client takes for its input counts apart: it is bounded by InputTime for each round.
	ctx, cancel := context.WithTimeout(ctx, callTimeout(s)+InputTime)
	defer cancel()
	for attempt := 0; ; attempt++ {
		end, err := r.guest.slot.get(ctx)
		if err != nil {
			return upstream.Reply{}, err
		}
		request := upstream.Request{Method: method, Params: params}
		if !end.Modern {
			request.Params = era.RequestToLegacy(params)
			if r.level != "" && end.Logging {
				r.guest.logEverything(ctx, end)
			}
		}
		reply, err := end.Call(ctx, request, r)
		if err == nil {
			if !end.Modern && reply.Error == nil {
				reply.Result = era.ResultToModern(method, reply.Result, nil)
			}
			return reply, nil
		}
		if broken(err) {
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
	if !r.stream.full() {
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
	in := r.want(method, params)
	if in == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the call asked for input more than %d times", maxInputRounds)
	}
	defer r.forget(in)
	r.stream.put(event{}) // wakes the round
	late := time.NewTimer(InputTime)
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
	in := &input{key: fmt.Sprintf("input_%d", r.asked), method: method, params: params, waiting: make(chan answer, 1)}
	r.inputs = append(r.inputs, in)
	return in
}

// forget undoes want: the input came, or the server no longer wants it.
func (r *relayed) forget(in *input) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inputs = slices.DeleteFunc(r.inputs, func(other *input) bool { return other == in })
}

// errNoInput: the client never came back with the input that the call waits for.
var errNoInput = errors.New("the client brought no input in time")

// round passes on what the call brings until it is answered or wants input.
func (r *relayed) round(ctx context.Context, m *jsonrpc.Message, send func([]byte) error) (Outcome, error) {
	reader := r.stream.attach()
	defer reader.detach()
	for {
		events := reader.next(ctx)
		for _, e := range events {
			if e.message == nil {
				continue
			}
			if err := send(e.message); err != nil {
				r.cancel(err)
				return Outcome{}, err
			}
		}
		r.mu.Lock()
		done, reply, wants := !r.done.IsZero(), r.reply, len(r.inputs) > 0
		r.mu.Unlock()
		switch {
		case done:
			return respond(m, reply), nil
		case wants:
			return r.wait(m)
		case ctx.Err() != nil:
			r.cancel(context.Cause(ctx))
			return Outcome{}, ctx.Err()
		case len(events) == 0:
			return Outcome{}, errors.New("the request was continued elsewhere")
		}
	}
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
	var requests jsonrpc.Object
	r.mu.Lock()
	for _, in := range r.inputs {
		var request jsonrpc.Object
		request.Set("method", jsonrpc.String(in.method))
		if in.params != nil {
			request.Set("params", in.params)
		}
		requests.Set(in.key, request.JSON())
	}
	r.mu.Unlock()
	var result jsonrpc.Object
	result.Set("resultType", jsonrpc.String(mcp.ResultInputRequired))
	result.Set("inputRequests", requests.JSON())
	return Outcome{Message: jsonrpc.Response(m.ID, result.JSON()), Waiting: r.id}, nil
}

// resume continues a call that waits, with the input that the client's retry brings. Inputs that are missing
// are asked for again.
func (g *guests) resume(ctx context.Context, principal, server string, m *jsonrpc.Message, id string, send func([]byte) error) (Outcome, error) {
	g.mu.Lock()
	r := g.waiting[id]
	if r != nil && (r.guest.key.principal != principal || r.guest.key.server != server) {
		r = nil
	}
	if r != nil {
		delete(g.waiting, id)
	}
	g.mu.Unlock()
	if r == nil {
		return respond(m, failed(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the call that this requestState continues no longer waits; call again without it"))), nil
	}
	responses := jsonrpc.Get(m.Params, "inputResponses")
	r.mu.Lock()
	var missing []*input
	for _, in := range r.inputs {
		if response := jsonrpc.Get(responses, in.key); len(response) > 0 && response[0] == '{' {
			in.waiting <- answer{result: response}
		} else {
			missing = append(missing, in)
		}
	}
	r.inputs = missing
	r.mu.Unlock()
	return r.round(ctx, m, send)
}
