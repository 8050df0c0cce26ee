package owner

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// quick is how long a call may take before its stream can be resumed. Most answer sooner, and are spared the
// writes to the log.
const quick = 100 * time.Millisecond

// request carries out a request of the client and passes what belongs to it to send, the answer last. When ctx
// ends, only the passing on does: the work goes on, and its events can be had by listen. ErrStopped, ErrHandedOver.
func (s *session) request(ctx context.Context, asked Asked, send func(Event) error) error {
	s.touch()
	if asked.Kind == StreamStanding && asked.Again && s.saidAnswer(ctx, asked.Message.ID) {
		return send(Event{Answered: &Answered{}})
	}
	c, reader, refused, err := s.begin(asked)
	if err != nil {
		return err
	}
	if refused != nil {
		return send(Event{Message: jsonrpc.ErrorResponse(asked.Message.ID, refused.JSON())})
	}
	if c.standing {
		return c.stand(ctx, send)
	}
	had := uint64(0)
	if asked.Again && c.stream.name != "" && !s.owner.silent.Load() { // what its owner before logged did not get to who asks again
		reading, cancel := context.WithTimeout(ctx, patienceSteps*patienceStep)
		had, _ = s.replay(reading, c.stream.name, 0, send) // as far as it is kept, and can be read
		cancel()
	}
	_, err = s.follow(ctx, c.stream, reader, had, send)
	displaced := errors.Is(err, ErrDisplaced)
	if displaced {
		err = nil // resumed elsewhere
	}
	if err == nil && ctx.Err() == nil && errors.Is(context.Cause(s.ctx), ErrStopped) {
		err = ErrHandedOver
	}
	if err != nil || ctx.Err() != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case c.fallsBack:
			s.fallBack(c)
		case !displaced:
			s.leaveUnread(c)
		}
	}
	return err
}

// How long calls are remembered whose streams broke, and how many of a session, for gateways that ask again: it may be
// the connection that died, and not the owner. Together their answers are at most as long as one stream may be.
const (
	unreadTime = 15 * time.Second
	maxUnread  = 100
)

// leaveUnread remembers a call whose stream broke; mu is held.
func (s *session) leaveUnread(c *call) {
	id := string(c.id)
	if len(s.unread) >= maxUnread {
		return
	}
	s.unread[id] = c
	s.boundUnread(c)
	time.AfterFunc(unreadTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.unread[id] == c {
			delete(s.unread, id)
		}
	})
}

// boundUnread forgets a call whose stream broke, if there is one, where too much waits for such calls; mu is held.
func (s *session) boundUnread(c *call) {
	if s.unread[string(c.id)] != c {
		return
	}
	bytes := 0
	for _, u := range s.unread {
		bytes += u.stream.size()
	}
	if bytes > maxStreamBytes {
		delete(s.unread, string(c.id))
	}
}

// StreamKind says what becomes of a request's stream when it breaks.
type StreamKind int

// Kinds of streams.
const (
	// StreamOnce: what is still to come is lost.
	StreamOnce StreamKind = iota
	// StreamResumable: it can be had by Listen.
	StreamResumable
	// StreamFallsBack: it goes to the standing stream, as far as that has room.
	StreamFallsBack
	// StreamStanding: there is none, all goes to the standing stream. Who asks is told by an empty event that the request
	// was taken, and by Answered of its end.
	StreamStanding
)

// stand waits for the end of a call whose answer goes to the standing stream: ErrHandedOver where it was not told there.
func (c *call) stand(ctx context.Context, send func(Event) error) error {
	if err := send(Event{}); err != nil {
		return err
	}
	select {
	case <-c.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.answered == nil {
		return ErrHandedOver
	}
	return send(Event{Answered: c.answered})
}

// fallBackAll makes the streams of all calls that can fall back do so.
func (s *session) fallBackAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.fallsBack {
			s.fallBack(c)
		}
	}
}

// fallBack passes what is still to come of a call to the standing stream; mu is held.
func (s *session) fallBack(c *call) {
	if s.closed || c.fallen != nil {
		return
	}
	c.fallen = make(chan struct{})
	r := c.stream.attach()          // before whoever reads now gets more
	if s.calls[string(c.id)] != c { // it ended, and does not wait itself for what it left
		s.falling[c] = struct{}{}
	}
	s.tasks.Go(func() {
		defer func() {
			close(c.fallen)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.falling, c)
		}()
		_, _ = s.follow(s.ctx, c.stream, r, 0, func(e Event) error {
			if s.standing.full() {
				s.owner.log.Warn("an answer was dropped: its client went away, and too many wait for it", "session", s.record.ID)
				return nil
			}
			s.say(e.Message)
			return nil
		})
	})
}

// begin starts a call, or finds the one that was begun before. Its message must not be kept by the caller. Whoever
// begins last reads: a request may be read late, by an owner that was frozen, when it was sent again already.
func (s *session) begin(asked Asked) (c *call, r *reader, refused *jsonrpc.Error, err error) {
	m := asked.Message
	s.mu.Lock()
	defer s.mu.Unlock()
	under := s.calls[string(m.ID)]
	switch {
	case s.closed:
		return nil, nil, nil, ErrStopped
	case under != nil && asked.Again:
		under.bring(m)
		return under, under.stream.attach(), nil, nil
	case asked.Again && s.unread[string(m.ID)] != nil:
		c = s.unread[string(m.ID)]
		delete(s.unread, string(m.ID))
		return c, c.stream.attach(), nil, nil
	case s.settled != nil:
		return nil, nil, nil, ErrStopped
	case under != nil:
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "a request with this id is still under way"), nil
	case len(s.calls) >= maxCalls:
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many requests of this session are under way; try again later"), nil
	case asked.Kind == StreamStanding && s.standing.full():
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many messages wait for this client; read them, and try again"), nil
	}
	c = &call{id: m.ID, server: asked.Server, method: m.Method, params: m.Params, stream: newStream(""), over: make(chan struct{}), trace: asked.trace}
	c.standing, c.fallsBack = asked.Kind == StreamStanding, asked.Kind == StreamFallsBack
	c.repeatable = s.repeatable(c)
	if asked.Again && !c.repeatable {
		return nil, nil, errOutcomeUnknown, nil
	}
	if asked.Kind == StreamResumable || c.standing {
		s.streamNo++
		// The epoch keeps names apart from those that an owner before gave.
		c.stream.name = strconv.FormatUint(s.epoch, 36) + "-" + strconv.FormatUint(s.streamNo, 36)
	}
	r = c.stream.attach()
	s.start(c, func(ctx context.Context) { s.run(ctx, c) })
	return c, r, nil, nil
}

// start has a call carried out; mu is held.
func (s *session) start(c *call, run func(ctx context.Context)) {
	ctx, cancel := context.WithCancelCause(c.trace.In(s.ctx))
	c.cancel = cancel
	if c.stream.name != "" && !c.standing {
		s.streams[c.stream.name] = c.stream
	}
	s.calls[string(c.id)] = c
	delete(s.unread, string(c.id)) // of another one under this id
	s.tasks.Go(func() {
		defer cancel(nil)
		defer close(c.over)
		run(ctx)
	})
}

// run carries out one call and puts its answer on its stream.
func (s *session) run(ctx context.Context, c *call) {
	if c.stream.name != "" {
		slow := time.AfterFunc(quick, func() { s.openLog(c) })
		defer slow.Stop()
	}
	reply := s.carryOut(ctx, c)
	s.finish(ctx, c, reply)
}

// finish puts a call's answer on its stream.
func (s *session) finish(ctx context.Context, c *call, reply upstream.Reply) {
	s.mu.Lock()
	delete(s.calls, string(c.id))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.settling()
	}()
	told := false
	switch {
	case s.ctx.Err() != nil: // the session goes on elsewhere, and with it the call
	case errors.Is(context.Cause(ctx), errCancelled):
		told = true
	case reply.Error != nil:
		told = s.put(c, jsonrpc.ErrorResponse(c.id, reply.Error))
	default:
		told = s.put(c, jsonrpc.Response(c.id, era.ResultForRevision(c.method, s.client.Load().Version, reply.Result)))
	}
	if told {
		c.answered = &Answered{Failed: reply.Error != nil || string(jsonrpc.Get(reply.Result, "isError")) == "true"}
	}
	c.mu.Lock()
	c.ended = true
	entered := c.tried
	c.mu.Unlock()
	c.stream.end()
	s.mu.Lock()
	delete(s.streams, c.stream.name) // what was logged can be had from the log
	s.boundUnread(c)
	fallen := c.fallen
	s.mu.Unlock()
	if fallen != nil {
		<-fallen
	}
	if entered && s.ctx.Err() == nil {
		s.strike(c)
	}
	s.touch()
}

func failed(e *jsonrpc.Error) upstream.Reply { return upstream.Reply{Error: e.JSON()} }

var emptyResult = upstream.Reply{Result: json.RawMessage("{}")}

func (s *session) carryOut(ctx context.Context, c *call) upstream.Reply {
	switch c.method {
	case mcp.MethodSetLevel:
		return s.setLevel(ctx, c)
	case mcp.MethodSubscribe:
		return s.subscribe(ctx, c)
	case mcp.MethodUnsubscribe:
		return s.unsubscribe(ctx, c)
	}
	server := s.owner.config.Catalog.Current().Server(c.server)
	if server == nil {
		return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q was removed", c.server))
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout(server))
	defer cancel()
	key, refused := s.owner.keyed(s.record.Principal, c.server, c.method, c.params)
	if refused != nil {
		return failed(refused)
	}
	reply, err := key.once(ctx, func(ctx context.Context) (upstream.Reply, error) { return s.call(ctx, c, server) })
	if err != nil {
		s.owner.log.WarnContext(ctx, "call failed", "session", s.record.ID, "server", c.server, "method", c.method, "error", err)
		return failed(upstream.Explain(c.server, err))
	}
	return reply
}

// call sends one request to a server in the server's era.
func (s *session) call(ctx context.Context, c *call, server *registryv1.CatalogServer) (upstream.Reply, error) {
	from := heard{s, callEmitter{s, c}}
	sl, err := s.slot(server)
	if err != nil {
		return upstream.Reply{}, err
	}
	for attempt := 0; ; attempt++ {
		end, err := sl.get(ctx)
		if err != nil {
			return upstream.Reply{}, err
		}
		var reply upstream.Reply
		if end.Modern {
			reply, err = s.callModern(ctx, end, c.server, from, c.method, c.params)
		} else {
			reply, err = s.owner.callLegacy(ctx, end, c.server, upstream.Request{Method: c.method, Params: c.params, Journal: s.journal(c, end)}, from)
		}
		if err == nil {
			return reply, nil
		}
		if end.broken(err) {
			sl.drop(end)
		}
		// A server that forgot the session did nothing with the request.
		if !errors.Is(err, upstream.ErrSessionGone) || attempt > 0 {
			return reply, err
		}
	}
}

// broken reports whether a conversation is of no more use after an error. One that needs no connection outlives that
// its server can't be reached for a while; none is broken by a caller that gave up before its request was sent.
func (e End) broken(err error) bool {
	if errors.Is(err, upstream.ErrNotSent) && errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, upstream.ErrSessionGone) || errors.Is(err, upstream.ErrClosed) || errors.Is(err, upstream.ErrNotSent) && e.Conversation == nil
}

// maxRounds bounds how often a modern server may ask for input during one call.
const maxRounds = 16

// callModern calls a modern server for a legacy client: what the server asks for in its result becomes requests
// to the client, and the retry is ours (specification 2026-07-28, mrtr).
func (s *session) callModern(ctx context.Context, end End, server string, from heard, method string, params json.RawMessage) (upstream.Reply, error) {
	s.mu.Lock()
	level := s.level
	s.mu.Unlock()
	// Whatever the client says of tasks: the owner can take them.
	capabilities := jsonrpc.With(s.client.Load().Capabilities, json.RawMessage("{}"), "extensions", mcp.ExtensionTasks)
	params = era.RequestToModern(params, era.Client{Capabilities: capabilities, Info: s.client.Load().Info, LogLevel: level})
	headers := s.owner.mirrored(server, method, params)
	for range maxRounds {
		reply, err := s.owner.config.Tracer.Call(ctx, server, end, upstream.Request{Method: method, Params: params, Headers: headers}, from)
		if err != nil {
			return reply, err
		}
		if reply.Error != nil {
			reply.Error = era.ErrorToLegacy(method, reply.Error)
			return reply, nil
		}
		if era.TaskCreated(reply.Result) {
			reply, err = s.followTask(ctx, end, server, reply.Result, jsonrpc.Get(params, "_meta"), from)
			if reply.Error != nil {
				reply.Error = era.ErrorToLegacy(method, reply.Error)
			}
			return reply, err
		}
		if !era.InputRequired(reply.Result) {
			return reply, nil
		}
		responses, refused := s.gather(ctx, from, jsonrpc.Get(reply.Result, "inputRequests"))
		if refused != nil {
			return failed(refused), nil
		}
		params = jsonrpc.With(params, responses, "inputResponses")
		if state := jsonrpc.Get(reply.Result, "requestState"); state != nil {
			params = jsonrpc.With(params, state, "requestState")
		} else {
			params = jsonrpc.Without(params, "requestState")
		}
	}
	return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "the server asked for input more than %d times", maxRounds)), nil
}

// mirrored are the headers that a modern server's tool asks for besides its arguments. Owners make them, since legacy
// clients don't know them and they don't travel with a request to an owner.
func (o *Owner) mirrored(server, method string, params json.RawMessage) http.Header {
	name, ok := jsonrpc.GetString(params, "name")
	if method != mcp.MethodToolsCall || !ok {
		return nil
	}
	tool := o.tool(server, name)
	if tool == nil || len(tool.HeaderParams()) == 0 {
		return nil
	}
	h := http.Header{}
	mcp.SetHeaderParams(h, tool.HeaderParams(), jsonrpc.Get(params, "arguments"))
	return h
}

// gather asks the client for each input that a modern server wants, one after the other.
func (s *session) gather(ctx context.Context, from heard, requests json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	var responses jsonrpc.Object
	wanted, _ := jsonrpc.ParseObject(requests)
	for _, key := range wanted.Keys() {
		request := wanted.Get(key)
		method, _ := jsonrpc.GetString(request, "method")
		if need := capabilityFor(method); need == "" || jsonrpc.Get(s.client.Load().Capabilities, need) == nil {
			return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the server needs %q of the client, which it can't do", method)
		}
		asking, taken := context.WithCancel(ctx) // its answer is of use to no other owner: the call can't be continued there
		result, err := from.Request(asking, method, jsonrpc.Get(request, "params"))
		taken()
		if err != nil {
			return nil, err
		}
		responses.Set(key, result)
	}
	return responses.JSON(), nil
}

// capabilityFor is the client capability that a server's request needs.
func capabilityFor(method string) string {
	switch method {
	case mcp.MethodSample:
		return "sampling"
	case mcp.MethodElicit:
		return "elicitation"
	case mcp.MethodRootsList:
		return "roots"
	}
	return ""
}

// slot returns the place of the session's conversation with a server.
func (s *session) slot(server *registryv1.CatalogServer) (*slot, error) {
	name := server.GetServer().GetName()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, upstream.ErrClosed
	}
	sl := s.slots[name]
	if sl == nil {
		sl = &slot{open: func(ctx context.Context) (End, error) { return s.openEnd(ctx, name) }}
		s.slots[name] = sl
	}
	return sl, nil
}

// openEnd opens the conversation with a server and tells it what the client told us before.
func (s *session) openEnd(ctx context.Context, name string) (End, error) {
	server := s.owner.config.Catalog.Current().Server(name)
	if server == nil {
		return End{}, upstream.ErrClosed
	}
	client := s.client.Load()
	s.mu.Lock()
	before := s.before[name]
	delete(s.before, name) // a server that forgot it is not asked for it twice
	s.mu.Unlock()
	heard := &hearing{session: s, server: name}
	end, err := s.owner.config.Opener.Open(ctx, server, EndClient{
		Principal:    s.record.Principal,
		Legacy:       true,
		Version:      client.Version,
		Capabilities: client.Capabilities,
		Info:         client.Info,
		Listener:     standingListener{s, name},
		Journal:      heard,
		Conversation: before,
	})
	if err != nil {
		if before != nil {
			s.mu.Lock()
			s.before[name] = before // the server may be back later
			s.mu.Unlock()
		}
		return End{}, err
	}
	if server.GetServer().GetStdio() != nil {
		s.begun(ctx, server, nil)
	}
	defer heard.of(end.Conversation)
	switch {
	case end.Modern:
		return end, nil
	case end.Conversation != nil && before != nil && end.Conversation.ID == before.ID:
		return end, nil // the server knows what the client told us
	case end.Conversation != nil:
		s.begun(ctx, server, end.Conversation)
	case before != nil:
		s.change(ctx, store.Changes{Remove: []string{stateUpstream + name}})
	}
	s.mu.Lock()
	level := s.level
	var subs []string
	for uri, r := range s.subs {
		if r.server == name {
			subs = append(subs, uri)
		}
	}
	s.mu.Unlock()
	if level != "" && end.Logging {
		_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodSetLevel, Params: levelParams(level)}, nil)
	}
	for _, uri := range subs {
		_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodSubscribe, Params: uriParams(uri)}, nil)
	}
	return end, nil
}

func levelParams(level string) json.RawMessage {
	var o jsonrpc.Object
	o.Set("level", jsonrpc.String(level))
	return o.JSON()
}

func uriParams(uri string) json.RawMessage {
	var o jsonrpc.Object
	o.Set("uri", jsonrpc.String(uri))
	return o.JSON()
}
