package engine

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/jsonrpc"
)

// ErrDisplaced: the session's standing stream is read on another connection now.
var ErrDisplaced = errors.New("the session went on on another connection")

// Open opens a session whose initialize is still to come, for a transport where the connection is there first
// (HTTP+SSE of 2024-11-05). The error, where there is one, is to be shown to the client.
func (e *Engine) Open(ctx context.Context, c Client) (*Session, *jsonrpc.Error) {
	facts, err := e.openSession(ctx, &sessionv1.OpenSessionRequest{
		Principal: &sessionv1.Principal{Id: c.Principal.ID},
		View:      c.View,
	})
	if err != nil {
		e.config.Log.WarnContext(ctx, "opening a session failed", "error", err)
		return nil, openError(err)
	}
	s, err := e.opened(c, facts)
	if err != nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", err)
	}
	return s, nil
}

// Initialize serves the initialize of a session that Open opened.
func (s *Session) Initialize(ctx context.Context, m *jsonrpc.Message) Reply {
	start := time.Now()
	reply, ok := s.initialize(ctx, m)
	s.engine.config.Meter.Request(Measured{
		Transport: s.client.Transport, Method: m.Method, Principal: s.client.Principal.ID, Tenant: s.client.Principal.Tenant,
		Failed: !ok, Duration: time.Since(start),
	})
	return reply
}

func (s *Session) initialize(ctx context.Context, m *jsonrpc.Message) (Reply, bool) {
	if late, ok := s.engine.late(ctx, s.client, m); ok {
		return late, false
	}
	view, ok := s.engine.view(s.client.View)
	if !ok {
		return failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the view %q was removed", s.client.View)), false
	}
	version, capabilities, r := readInitialize(m.Params)
	if r != nil {
		return failure(m.ID, http.StatusOK, r.err), false
	}
	req := &sessionv1.InitializeSessionRequest{
		SessionId:          s.facts.Load().GetSessionId(),
		ProtocolVersion:    version,
		ClientCapabilities: capabilities,
		ClientInfo:         jsonrpc.Get(m.Params, "clientInfo"),
	}
	var wait adoption
	err := s.initializeAt(ctx, req)
	for absent(err) && wait.next(ctx, s, err) == nil {
		err = s.initializeAt(ctx, req)
	}
	switch {
	case status.Code(err) == codes.AlreadyExists:
		return failure(m.ID, http.StatusOK, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session is initialized already")), false
	case err != nil:
		s.lost(err)
		rpcErr, httpStatus := ownerError(err)
		return failure(m.ID, httpStatus, rpcErr), false
	}
	return success(m.ID, s.engine.welcome(view, version)), true
}

// initializeAt completes the session at the owner that is known.
func (s *Session) initializeAt(ctx context.Context, req *sessionv1.InitializeSessionRequest) error {
	owner, err := s.engine.config.Owners.Session(s.facts.Load().GetAddress())
	if err == nil {
		_, err = owner.InitializeSession(ctx, req)
		s.engine.config.Owners.Forget(req.GetSessionId())
	}
	return err
}

// Welcome answers an initialize with which a client comes back to its session: as it was answered the first time.
func (s *Session) Welcome(m *jsonrpc.Message) Reply {
	view, ok := s.engine.view(s.client.View)
	if !ok {
		return failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the view %q was removed", s.client.View))
	}
	return success(m.ID, s.engine.welcome(view, s.Version()))
}

// Post puts a message for the client on the session's standing stream, and waits for room there: ErrNoSession or
// ErrUnavailable. Where the session moved meanwhile, it goes to its new owner.
func (s *Session) Post(ctx context.Context, message []byte) error {
	var wait adoption
	for {
		owner, err := s.engine.config.Owners.Session(s.facts.Load().GetAddress())
		if err == nil {
			_, err = owner.Post(ctx, &sessionv1.PostRequest{SessionId: s.facts.Load().GetSessionId(), Message: message})
		}
		if err == nil {
			return nil
		}
		if !absent(err) {
			return s.ended(ctx, err)
		}
		if err := wait.next(ctx, s, err); err != nil {
			return s.ended(ctx, err)
		}
	}
}
