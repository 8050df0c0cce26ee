// Package session is the session service: gRPC in front of an owner. What sessions are and do is owner's to
// say; here requests are read, and errors become statuses. Start at [New].
package session

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/tasks"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// Service implements SessionService, UpstreamService and TaskService.
type Service struct {
	sessionv1.UnimplementedSessionServiceServer
	sessionv1.UnimplementedUpstreamServiceServer
	sessionv1.UnimplementedTaskServiceServer

	owner  *owner.Owner
	store  store.Store
	opener owner.Opener
	node   store.Node
}

// Config is what a Service needs.
type Config struct {
	Owner  *owner.Owner
	Store  store.Store
	Opener owner.Opener
	Node   store.Node
}

// New makes a Service.
func New(config Config) *Service {
	return &Service{owner: config.Owner, store: config.Store, opener: config.Opener, node: config.Node}
}

// Register adds the services to a server.
func (s *Service) Register(to grpc.ServiceRegistrar) {
	sessionv1.RegisterSessionServiceServer(to, s)
	sessionv1.RegisterUpstreamServiceServer(to, s)
	sessionv1.RegisterTaskServiceServer(to, s)
}

// OpenSession implements sessionv1.SessionServiceServer.
func (s *Service) OpenSession(ctx context.Context, req *sessionv1.OpenSessionRequest) (*sessionv1.OpenSessionResponse, error) {
	for _, raw := range [][]byte{req.GetClientCapabilities(), req.GetClientInfo()} {
		if len(raw) > 0 && jsonrpc.Check(raw) != nil {
			return nil, status.Error(codes.InvalidArgument, "client_capabilities and client_info must be JSON")
		}
	}
	facts, err := s.owner.Open(ctx, store.Record{
		Principal:    req.GetPrincipal().GetId(),
		Version:      req.GetProtocolVersion(),
		View:         req.GetView(),
		Capabilities: req.GetClientCapabilities(),
		ClientInfo:   req.GetClientInfo(),
	})
	if err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.OpenSessionResponse{Facts: factsMessage(facts)}, nil
}

// InitializeSession implements sessionv1.SessionServiceServer.
func (s *Service) InitializeSession(ctx context.Context, req *sessionv1.InitializeSessionRequest) (*sessionv1.InitializeSessionResponse, error) {
	for _, raw := range [][]byte{req.GetClientCapabilities(), req.GetClientInfo()} {
		if len(raw) > 0 && jsonrpc.Check(raw) != nil {
			return nil, status.Error(codes.InvalidArgument, "client_capabilities and client_info must be JSON")
		}
	}
	facts, err := s.owner.Initialize(ctx, req.GetSessionId(), owner.Client{
		Version:      req.GetProtocolVersion(),
		Capabilities: req.GetClientCapabilities(),
		Info:         req.GetClientInfo(),
	})
	if err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.InitializeSessionResponse{Facts: factsMessage(facts)}, nil
}

// LocateSession implements sessionv1.SessionServiceServer.
func (s *Service) LocateSession(ctx context.Context, req *sessionv1.LocateSessionRequest) (*sessionv1.LocateSessionResponse, error) {
	facts, err := s.owner.Locate(ctx, req.GetSessionId(), req.GetUnreachable())
	if err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.LocateSessionResponse{Facts: factsMessage(facts)}, nil
}

func factsMessage(f owner.Facts) *sessionv1.SessionFacts {
	return &sessionv1.SessionFacts{
		SessionId:          f.Record.ID,
		Principal:          &sessionv1.Principal{Id: f.Record.Principal},
		ProtocolVersion:    f.Record.Version,
		View:               f.Record.View,
		ClientCapabilities: f.Record.Capabilities,
		Owner:              f.Owner.Name,
		Address:            f.Owner.Address,
		Epoch:              f.Epoch,
		Mark:               f.Mark,
	}
}

// WatchSessions implements sessionv1.SessionServiceServer.
func (s *Service) WatchSessions(_ *sessionv1.WatchSessionsRequest, to grpc.ServerStreamingServer[sessionv1.WatchSessionsResponse]) error {
	err := s.owner.Watch(to.Context(), func(e owner.Ending) error {
		return to.Send(&sessionv1.WatchSessionsResponse{Mark: e.Mark, SessionId: e.ID})
	})
	return s.status(err)
}

// Send implements sessionv1.SessionServiceServer.
func (s *Service) Send(req *sessionv1.SendRequest, to grpc.ServerStreamingServer[sessionv1.SendResponse]) error {
	m, err := jsonrpc.Parse(req.GetMessage())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if !m.IsRequest() {
		return s.status(s.owner.Deliver(to.Context(), req.GetSessionId(), &m))
	}
	kind := owner.StreamOnce
	switch {
	case req.GetStanding():
		kind = owner.StreamStanding
	case req.GetResumable():
		kind = owner.StreamResumable
	case req.GetFallBack():
		kind = owner.StreamFallsBack
	}
	asked := owner.Asked{Message: &m, Server: req.GetServer(), Kind: kind, Again: req.GetAgain()}
	err = s.owner.Request(to.Context(), req.GetSessionId(), asked, func(e owner.Event) error {
		if e.Answered != nil {
			return to.Send(&sessionv1.SendResponse{Answered: &sessionv1.Answered{Failed: e.Answered.Failed}})
		}
		return to.Send(&sessionv1.SendResponse{Event: &sessionv1.Event{Id: e.ID, Message: e.Message}})
	})
	return s.status(err)
}

// Listen implements sessionv1.SessionServiceServer.
func (s *Service) Listen(req *sessionv1.ListenRequest, to grpc.ServerStreamingServer[sessionv1.ListenResponse]) error {
	var request *jsonrpc.Message
	if raw := req.GetRequest(); len(raw) > 0 {
		m, err := jsonrpc.Parse(raw)
		if err != nil || !m.IsRequest() {
			return status.Error(codes.InvalidArgument, "request must be a JSON-RPC request")
		}
		request = &m
	}
	listening := owner.Listening{After: req.GetAfter(), Unnamed: req.GetAcknowledge(), Reader: req.GetReader(), Request: request}
	err := s.owner.Listen(to.Context(), req.GetSessionId(), listening, func(e owner.Event) error {
		return to.Send(&sessionv1.ListenResponse{Event: &sessionv1.Event{Id: e.ID, Message: e.Message}})
	})
	return s.status(err)
}

// LeaveSession implements sessionv1.SessionServiceServer.
func (s *Service) LeaveSession(_ context.Context, req *sessionv1.LeaveSessionRequest) (*sessionv1.LeaveSessionResponse, error) {
	if err := s.owner.Leave(req.GetSessionId(), req.GetReader()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.LeaveSessionResponse{}, nil
}

// Post implements sessionv1.SessionServiceServer.
func (s *Service) Post(ctx context.Context, req *sessionv1.PostRequest) (*sessionv1.PostResponse, error) {
	if err := jsonrpc.Check(req.GetMessage()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.owner.Post(ctx, req.GetSessionId(), req.GetMessage()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.PostResponse{}, nil
}

// CloseSession implements sessionv1.SessionServiceServer.
func (s *Service) CloseSession(ctx context.Context, req *sessionv1.CloseSessionRequest) (*sessionv1.CloseSessionResponse, error) {
	if err := s.owner.Close(ctx, req.GetSessionId(), req.GetUnlessHeard()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.CloseSessionResponse{}, nil
}

// UseSessions implements sessionv1.SessionServiceServer.
func (s *Service) UseSessions(_ context.Context, req *sessionv1.UseSessionsRequest) (*sessionv1.UseSessionsResponse, error) {
	s.owner.Used(req.GetSessionIds())
	return &sessionv1.UseSessionsResponse{}, nil
}

// DrainSession implements sessionv1.SessionServiceServer.
func (s *Service) DrainSession(ctx context.Context, req *sessionv1.DrainSessionRequest) (*sessionv1.DrainSessionResponse, error) {
	if err := s.owner.Drain(ctx, req.GetSessionId()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.DrainSessionResponse{}, nil
}

// GetSession implements sessionv1.SessionServiceServer.
func (s *Service) GetSession(ctx context.Context, req *sessionv1.GetSessionRequest) (*sessionv1.GetSessionResponse, error) {
	held, err := s.store.Get(ctx, req.GetSessionId())
	if err != nil {
		return nil, s.status(err)
	}
	held.Record = owner.Told(held.Record)
	session := sessionMessage(held)
	session.Upstreams = s.owner.Upstreams(held.ID)
	session.Restarts = owner.Restarts(held.Record)
	if held.Owner.Holds() {
		session.Address = held.Owner.Address
	}
	return &sessionv1.GetSessionResponse{Session: session}, nil
}

// ListSessions implements sessionv1.SessionServiceServer.
func (s *Service) ListSessions(ctx context.Context, req *sessionv1.ListSessionsRequest) (*sessionv1.ListSessionsResponse, error) {
	sessions, next, err := s.store.List(ctx, req.GetPageToken(), int(req.GetPageSize()))
	if err != nil {
		return nil, s.status(err)
	}
	response := &sessionv1.ListSessionsResponse{NextPageToken: next}
	for _, held := range sessions {
		response.Sessions = append(response.Sessions, sessionMessage(held))
	}
	return response, nil
}

func sessionMessage(held store.Session) *sessionv1.Session {
	m := &sessionv1.Session{
		SessionId:       held.ID,
		Principal:       held.Principal,
		ProtocolVersion: held.Version,
		View:            held.View,
		Epoch:           held.Owner.Epoch,
		CreatedAt:       timestamppb.New(held.CreatedAt),
		UsedAt:          timestamppb.New(held.UsedAt),
		Client:          clientName(held.ClientInfo),
	}
	if held.Owner.Holds() {
		m.Owner = held.Owner.Node
	}
	return m
}

func clientName(info json.RawMessage) string {
	name, _ := jsonrpc.GetString(info, "name")
	version, _ := jsonrpc.GetString(info, "version")
	return strings.TrimSpace(name + " " + version)
}

// Call implements sessionv1.UpstreamServiceServer.
func (s *Service) Call(req *sessionv1.CallRequest, to grpc.ServerStreamingServer[sessionv1.CallResponse]) error {
	m, err := jsonrpc.Parse(req.GetMessage())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if !m.IsRequest() {
		return status.Error(codes.InvalidArgument, "message must be a request")
	}
	relayed := owner.Relayed{
		Principal: req.GetPrincipal().GetId(), Server: req.GetServer(), Message: &m,
		Resume: req.GetResume(), Tasks: req.GetTasks(), Conversation: req.GetConversation(),
	}
	outcome, err := s.owner.Relay(to.Context(), relayed, func(message []byte) error {
		return to.Send(&sessionv1.CallResponse{Message: message})
	})
	if err != nil {
		return s.status(err)
	}
	return to.Send(&sessionv1.CallResponse{
		Message: outcome.Message, Waiting: outcome.Waiting, Address: s.node.Address, Task: outcome.Task, Conversation: outcome.Conversation,
	})
}

// DescribeServer implements sessionv1.UpstreamServiceServer.
func (s *Service) DescribeServer(ctx context.Context, req *sessionv1.DescribeServerRequest) (*sessionv1.DescribeServerResponse, error) {
	offer, err := s.opener.Describe(ctx, req.GetServer())
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &sessionv1.DescribeServerResponse{Offer: offer}, nil
}

// status maps the owner's errors.
func (s *Service) status(err error) error {
	var moved *owner.MovedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &moved):
		st := status.New(codes.FailedPrecondition, moved.Error())
		if detailed, err := st.WithDetails(factsMessage(moved.Facts)); err == nil {
			st = detailed
		}
		return st.Err()
	case errors.Is(err, owner.ErrStopped), errors.Is(err, owner.ErrNotReady), errors.Is(err, owner.ErrStore): // nothing was done, and another owner may
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, tasks.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, tasks.ErrElsewhere):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, owner.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return status.Error(codes.NotFound, "session not found")
	case errors.Is(err, owner.ErrInitialized):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, owner.ErrDisplaced):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, owner.ErrFull), errors.Is(err, owner.ErrBusy):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, owner.ErrGone):
		return status.Error(codes.OutOfRange, err.Error())
	case errors.Is(err, store.ErrInvalid), errors.Is(err, owner.ErrEventID):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, tasks.ErrBusy), errors.Is(err, owner.ErrHandedOver), errors.Is(err, upstream.ErrNotSent), errors.Is(err, upstream.ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "not done in time")
	}
	return err // the rpc server makes it INTERNAL and keeps its text in the log
}
