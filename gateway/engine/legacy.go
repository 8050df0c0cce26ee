package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// Session is a legacy client's session as a gateway sees it.
type Session struct {
	engine *Engine
	client Client
	facts  atomic.Pointer[sessionv1.SessionFacts] // change when the session moves
	token  string
}

func newSession(e *Engine, c Client, facts *sessionv1.SessionFacts, token string) *Session {
	s := &Session{engine: e, client: c, token: token}
	s.facts.Store(facts)
	return s
}

const purposeSession = "erlmcp session id v1"

// Token is what the client presents to come back: the sealed session id.
func (s *Session) Token() string { return s.token }

// Version is the negotiated revision.
func (s *Session) Version() string { return s.facts.Load().GetProtocolVersion() }

// Initialize opens a session. The Session is nil where the Reply is an error.
func (e *Engine) Initialize(ctx context.Context, c Client, m *jsonrpc.Message) (*Session, Reply) {
	start := time.Now()
	ctx, span := e.trace(ctx, c, m)
	s, reply := e.initialize(ctx, c, m)
	measured := Measured{Transport: c.Transport, Method: m.Method, Principal: c.Principal.ID, Tenant: c.Principal.Tenant, Failed: s == nil}
	e.measure(ctx, span, &measured, start)
	return s, reply
}

func (e *Engine) initialize(ctx context.Context, c Client, m *jsonrpc.Message) (*Session, Reply) {
	if late, ok := e.late(ctx, c, m); ok {
		return nil, late
	}
	view, ok := e.view(c.View)
	if !ok {
		return nil, failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no view or server is named %q", c.View))
	}
	version, capabilities, r := readInitialize(m.Params)
	if r != nil {
		return nil, failure(m.ID, http.StatusOK, r.err)
	}
	facts, err := e.openSession(ctx, &sessionv1.OpenSessionRequest{
		Principal:          &sessionv1.Principal{Id: c.Principal.ID},
		ProtocolVersion:    version,
		View:               c.View,
		ClientCapabilities: capabilities,
		ClientInfo:         jsonrpc.Get(m.Params, "clientInfo"),
	})
	if err != nil {
		e.config.Log.WarnContext(ctx, "opening a session failed", "error", err)
		reply := failure(m.ID, http.StatusServiceUnavailable, openError(err))
		reply.RetryAfter = time.Second
		return nil, reply
	}
	s, err := e.opened(c, facts)
	if err != nil {
		return nil, failure(m.ID, http.StatusBadGateway, jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", err))
	}
	return s, success(m.ID, e.welcome(view, version))
}

// opened is the session that an owner just opened.
func (e *Engine) opened(c Client, facts *sessionv1.SessionFacts) (*Session, error) {
	id, err := uuid.Parse(facts.GetSessionId())
	if err != nil {
		return nil, errors.New("the session service made a malformed session id")
	}
	return newSession(e, c, facts, e.config.Sealer.Seal(purposeSession, id[:], nil)), nil
}

// readInitialize reads the params of initialize: the revision that will be spoken, and what the client can do.
func readInitialize(params json.RawMessage) (version string, capabilities json.RawMessage, r *refusal) {
	asked, r := required(params, "protocolVersion")
	if r != nil {
		return "", nil, r
	}
	capabilities = jsonrpc.Get(params, "capabilities")
	if capabilities == nil {
		capabilities = json.RawMessage("{}")
	}
	if capabilities[0] != '{' {
		return "", nil, refuse(http.StatusOK, jsonrpc.CodeInvalidParams, `params needs "capabilities", an object`)
	}
	return mcp.NegotiateLegacy(asked), capabilities, nil
}

// welcome is the InitializeResult.
func (e *Engine) welcome(view *catalog.View, version string) json.RawMessage {
	result := []byte(`{"protocolVersion":`)
	result = append(result, jsonrpc.String(version)...)
	result = append(result, `,"capabilities":`+legacyCapabilities+`,"serverInfo":`...)
	result = append(result, e.serverInfo...)
	if view.Instructions != "" {
		result = append(result, `,"instructions":`...)
		result = append(result, jsonrpc.String(view.Instructions)...)
	}
	return append(result, '}')
}

// Errors of Session.
var (
	// ErrNoSession: the id was never a session of this principal and view, or the session ended.
	ErrNoSession = errors.New("session not found; initialize a new one")
	// ErrUnavailable: nobody can say now.
	ErrUnavailable = errors.New("the session service can't be reached; try again shortly")
)

// Session finds the session that a client presents: ErrNoSession or ErrUnavailable. Where the owner is known
// it costs no call.
func (e *Engine) Session(ctx context.Context, c Client, token string) (*Session, error) {
	plain, err := e.config.Sealer.Open(purposeSession, token, nil)
	if err != nil {
		return nil, ErrNoSession
	}
	id, err := uuid.FromBytes(plain)
	if err != nil {
		return nil, ErrNoSession
	}
	facts, err := e.locate(ctx, id.String())
	if err == nil && facts.GetProtocolVersion() == "" { // remembered from before initialize, perhaps
		e.config.Owners.Forget(id.String())
		facts, err = e.locate(ctx, id.String())
	}
	switch {
	case status.Code(err) == codes.NotFound:
		return nil, ErrNoSession
	case err != nil:
		e.config.Log.WarnContext(ctx, "locating a session failed", "error", err)
		return nil, ErrUnavailable
	case facts.GetPrincipal().GetId() != c.Principal.ID, facts.GetView() != c.View:
		return nil, ErrNoSession // someone else's: it must look like none
	}
	return newSession(e, c, facts, token), nil
}

// Request serves one request of the session. The work goes on when ctx ends; what it brings can be had by
// Listen where the stream could be resumed.
func (s *Session) Request(ctx context.Context, m *jsonrpc.Message, out Stream) Reply {
	start := time.Now()
	measured := Measured{Transport: s.client.Transport, Method: m.Method, Principal: s.client.Principal.ID, Tenant: s.client.Principal.Tenant}
	ctx, span := s.engine.trace(ctx, s.client, m)
	reply := s.request(ctx, m, out, &measured)
	measured.Failed = measured.Failed || reply.Status >= 400
	s.engine.measure(ctx, span, &measured, start)
	return reply
}

func (s *Session) request(ctx context.Context, m *jsonrpc.Message, out Stream, measured *Measured) Reply {
	if late, ok := s.engine.late(ctx, s.client, m); ok {
		return late
	}
	view, ok := s.engine.view(s.client.View)
	if !ok {
		return failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the view %q was removed", s.client.View))
	}
	if s.Version() == "" && m.Method != mcp.MethodPing {
		return failure(m.ID, http.StatusOK, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "send initialize first"))
	}
	switch m.Method {
	case mcp.MethodPing:
		return success(m.ID, json.RawMessage("{}"))
	case mcp.MethodToolsList:
		return s.engine.list(m, view, catalog.Tools, false)
	case mcp.MethodPromptsList:
		return s.engine.list(m, view, catalog.Prompts, false)
	case mcp.MethodResourcesList:
		return s.engine.list(m, view, catalog.Resources, false)
	case mcp.MethodTemplatesList:
		return s.engine.list(m, view, catalog.Templates, false)
	case mcp.MethodSetLevel:
		return s.send(ctx, m, "", m.Params, out, measured)
	case mcp.MethodToolsCall, mcp.MethodPromptsGet, mcp.MethodResourcesRead, mcp.MethodComplete, mcp.MethodSubscribe, mcp.MethodUnsubscribe:
		to, r := s.engine.route(view, m, false)
		if r != nil {
			measured.Failed = true
			return failure(m.ID, http.StatusOK, r.err)
		}
		measured.Server, measured.Name = to.server.GetServer().GetName(), to.name()
		if jsonrpc.Get(to.params, "task") != nil { // tasks of 2025-11-25, which are not offered: to be ignored
			to.params = jsonrpc.Without(to.params, "task")
		}
		if s.direct(to.server, m) {
			return s.callDirect(ctx, m, to, out, measured)
		}
		return s.send(ctx, m, measured.Server, to.params, out, measured)
	case mcp.MethodInitialize:
		return failure(m.ID, http.StatusOK, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session is initialized already"))
	}
	measured.Failed = true
	why := ""
	if strings.HasPrefix(m.Method, "tasks/") {
		why = "; tasks are for clients of revision 2026-07-28, and a call of an older one is carried to its end"
	}
	return failure(m.ID, http.StatusOK, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s%s", m.Method, why))
}

// send has the session's owner carry out a request and passes on what comes.
func (s *Session) send(ctx context.Context, m *jsonrpc.Message, server string, params json.RawMessage, out Stream, measured *Measured) Reply {
	req := &sessionv1.SendRequest{
		SessionId: s.facts.Load().GetSessionId(),
		Message:   jsonrpc.Request(m.ID, m.Method, params),
		Server:    server,
		Resumable: s.resumable(),
		FallBack:  s.client.Header == nil,
		Standing:  s.client.Standing,
	}
	var wait adoption
	last := "" // the id of the last event that was passed on
	for {
		answer, err := s.follow(ctx, req, &last, out, measured)
		switch {
		case answer != nil:
			_, measured.Failed = isAnswer(answer.GetMessage())
			return Reply{Status: http.StatusOK, Body: [][]byte{answer.GetMessage()}, EventID: answer.GetId()}
		case err == nil || ctx.Err() != nil: // the client cancelled, or is gone: there is no answer
			return Reply{}
		case errors.Is(err, io.EOF): // the next owner knows nothing of the call
			measured.Failed = true
			return failure(m.ID, http.StatusOK, upstream.Lost("the call was lost with the session's owner; whether it was carried out is unknown"))
		case absent(err) && (!certain(err) || req.Again || last != ""):
			// The next owner knows what became of it, or carries it out if it may be repeated. That an owner which was asked
			// about it did nothing says nothing of the one before.
			req.Again = true
			if err = wait.next(ctx, s, err); err == nil {
				continue
			}
			err = status.Error(codes.Unavailable, err.Error()) // begun or not is forgotten: it may have been
		}
		s.lost(err)
		rpcErr, httpStatus := ownerError(err)
		return failure(m.ID, httpStatus, rpcErr)
	}
}

// follow has a request carried out and passes on what comes before its answer, which it returns; nil where there
// is none, or it reached the client already. Behind the last event that was passed on, if there is one, it follows the request's stream.
func (s *Session) follow(ctx context.Context, req *sessionv1.SendRequest, last *string, out Stream, measured *Measured) (*sessionv1.Event, error) {
	resumed := *last != ""
	next, end, err := s.stream(ctx, req, *last)
	if err != nil {
		return nil, err
	}
	defer end()
	for {
		response, err := next()
		if errors.Is(err, io.EOF) && !resumed { // cancelled
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if answered := response.GetAnswered(); answered != nil {
			measured.Failed = answered.GetFailed()
			return nil, nil
		}
		event := response.GetEvent()
		if answered, _ := isAnswer(event.GetMessage()); answered {
			return event, nil
		}
		if out.Send(event.GetId(), event.GetMessage()) != nil {
			return nil, nil
		}
		if event.GetId() != "" {
			*last = event.GetId()
		}
	}
}

// stream opens the stream of a request: a new one, or the rest of it behind an event.
func (s *Session) stream(ctx context.Context, req *sessionv1.SendRequest, after string) (next func() (*sessionv1.SendResponse, error), end func(), err error) {
	if after == "" {
		events, err := open(ctx, s, false, func(ctx context.Context, owner sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[sessionv1.SendResponse], error) {
			return owner.Send(ctx, req)
		})
		if err != nil {
			return nil, nil, err
		}
		return events.next, events.end, nil
	}
	events, err := open(ctx, s, true, func(ctx context.Context, owner sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[sessionv1.ListenResponse], error) {
		return owner.Listen(ctx, &sessionv1.ListenRequest{SessionId: req.GetSessionId(), After: after, Request: req.GetMessage()})
	})
	if err != nil {
		return nil, nil, err
	}
	return func() (*sessionv1.SendResponse, error) {
		response, err := events.next()
		return &sessionv1.SendResponse{Event: response.GetEvent()}, err
	}, events.end, nil
}

// isAnswer reports whether a message is a response, and whether that tells of a failure.
func isAnswer(message []byte) (answer, failed bool) {
	if len(message) == 0 || jsonrpc.Get(message, "method") != nil {
		return false, false
	}
	result := jsonrpc.Get(message, "result")
	return true, result == nil || isErrorResult(result)
}

// resumable reports whether the client can resume a request's stream.
func (s *Session) resumable() bool {
	return s.client.Header != nil && s.Version() >= mcp.V2025_03_26
}

// Notify hands a notification or a response to the session: ErrNoSession or ErrUnavailable.
func (s *Session) Notify(ctx context.Context, m *jsonrpc.Message) error {
	message := jsonrpc.Request(nil, m.Method, m.Params)
	switch {
	case m.IsResponse() && m.Error != nil:
		message = jsonrpc.ErrorResponse(m.ID, m.Error)
	case m.IsResponse():
		message = jsonrpc.Response(m.ID, m.Result)
	}
	events, err := open(ctx, s, true, func(ctx context.Context, owner sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[sessionv1.SendResponse], error) {
		return owner.Send(ctx, &sessionv1.SendRequest{SessionId: s.facts.Load().GetSessionId(), Message: message})
	})
	if err == nil {
		defer events.end()
		_, err = events.next()
	}
	return s.ended(ctx, err)
}

// ErrGone: the events after the one that the client names are no longer kept.
var ErrGone = errors.New("the events after this one are no longer kept")

// ErrEventID: no event ever has the id that the client names.
var ErrEventID = errors.New("Last-Event-ID is no id of an event")

// Listen passes on the session's standing stream, or, behind an event that the client names, what it missed of
// that event's stream. When the session's owner is gone it goes on at the next one, and the client notices
// nothing. It returns nil when the stream or ctx ended: ErrNoSession, ErrUnavailable, ErrGone, ErrEventID or
// ErrDisplaced.
func (s *Session) Listen(ctx context.Context, after string, out Stream) error {
	return s.follows(ctx, &sessionv1.ListenRequest{After: after}, func(req *sessionv1.ListenRequest) error {
		events, err := s.listen(ctx, req)
		if err != nil {
			return err
		}
		defer events.end()
		return passOn(events, req, out)
	})
}

// leaveTime is how long who leaves a standing stream waits for what is on its way.
const leaveTime = 2 * time.Second

// Attend is Listen to the standing stream for a client that can't name events: it begins where the connection before left,
// and with an empty event, once nobody else gets the stream. When leaving ends, it ends in good order: all that the owner
// sent was passed on, and the next connection begins behind that.
func (s *Session) Attend(ctx, leaving context.Context, out Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(leaving, func() {
		select {
		case <-time.After(leaveTime):
			cancel()
		case <-ctx.Done():
		}
	})()
	return s.follows(ctx, &sessionv1.ListenRequest{Acknowledge: true}, func(req *sessionv1.ListenRequest) error {
		if leaving.Err() != nil && req.GetAfter() == "" {
			return nil
		}
		req.Reader = rand.Text()
		events, err := s.listen(ctx, req)
		if err != nil {
			return err
		}
		defer events.end()
		defer context.AfterFunc(leaving, func() {
			// From an owner that goes too all comes that it sent, and the next one is told what that was.
			if err := s.leave(ctx, req.GetReader()); err != nil && !absent(err) {
				cancel()
			}
		})()
		return passOn(events, req, out)
	})
}

// leave has the owner end the standing stream of a reader.
func (s *Session) leave(ctx context.Context, reader string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	owner, err := s.engine.config.Owners.Session(s.facts.Load().GetAddress())
	if err == nil {
		_, err = owner.LeaveSession(ctx, &sessionv1.LeaveSessionRequest{SessionId: s.facts.Load().GetSessionId(), Reader: reader})
	}
	return err
}

// follows has a stream listened to, at one owner after the other.
func (s *Session) follows(ctx context.Context, req *sessionv1.ListenRequest, listen func(*sessionv1.ListenRequest) error) error {
	var wait adoption
	for {
		began, before := time.Now(), req.GetAfter()
		err := listen(req)
		if req.GetAfter() != before || time.Since(began) > adoptionTime { // an owner was there
			wait = adoption{}
		}
		if ctx.Err() != nil || err == nil {
			return nil
		}
		if status.Code(err) == codes.InvalidArgument {
			return ErrEventID
		}
		if !absent(err) {
			return s.ended(ctx, err)
		}
		if err := wait.next(ctx, s, err); err != nil {
			return s.ended(ctx, err)
		}
	}
}

// listen opens a stream at the present owner.
func (s *Session) listen(ctx context.Context, req *sessionv1.ListenRequest) (*ownerStream[sessionv1.ListenResponse], error) {
	return open(ctx, s, true, func(ctx context.Context, owner sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[sessionv1.ListenResponse], error) {
		req.SessionId = s.facts.Load().GetSessionId()
		return owner.Listen(ctx, req)
	})
}

// passOn passes a stream's events on until it ends. req becomes that for what is behind them.
func passOn(events *ownerStream[sessionv1.ListenResponse], req *sessionv1.ListenRequest, out Stream) error {
	for {
		response, err := events.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if out.Send(response.GetEvent().GetId(), response.GetEvent().GetMessage()) != nil {
			return nil
		}
		if id := response.GetEvent().GetId(); id != "" {
			req.After = id
		}
	}
}

// Close ends the session: ErrNoSession or ErrUnavailable.
func (s *Session) Close(ctx context.Context) error { return s.close(ctx, false) }

// Leave is Close, unless the client came back and reads the standing stream, at whichever gateway.
func (s *Session) Leave(ctx context.Context) error { return s.close(ctx, true) }

func (s *Session) close(ctx context.Context, unlessHeard bool) error {
	var wait adoption
	for {
		owner, err := s.engine.config.Owners.Session(s.facts.Load().GetAddress())
		if err == nil {
			asking, cancel := context.WithTimeout(ctx, askTime)
			_, err = owner.CloseSession(asking, &sessionv1.CloseSessionRequest{SessionId: s.facts.Load().GetSessionId(), UnlessHeard: unlessHeard})
			cancel()
		}
		s.engine.config.Owners.Forget(s.facts.Load().GetSessionId())
		if !absent(err) && !overdue(ctx, err) {
			return s.ended(ctx, err)
		}
		if err := wait.next(ctx, s, err); err != nil {
			return s.ended(ctx, err)
		}
	}
}

// ended says what the end of a stream means to the client.
func (s *Session) ended(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	s.lost(err)
	switch status.Code(err) {
	case codes.NotFound:
		return ErrNoSession
	case codes.OutOfRange:
		return ErrGone
	case codes.Aborted:
		return ErrDisplaced
	}
	s.engine.config.Log.WarnContext(ctx, "a session's owner failed", "session", s.facts.Load().GetSessionId(), "owner", s.facts.Load().GetOwner(), "error", err)
	return ErrUnavailable
}

// lost forgets where the session is when its owner no longer has it, so that the next request asks anew.
func (s *Session) lost(err error) {
	switch status.Code(err) {
	case codes.NotFound, codes.FailedPrecondition, codes.Unavailable:
		s.engine.config.Owners.Forget(s.facts.Load().GetSessionId())
	}
}
