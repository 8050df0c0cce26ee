package session

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/jsonrpc"
)

// GetTask implements sessionv1.TaskServiceServer.
func (s *Service) GetTask(ctx context.Context, req *sessionv1.GetTaskRequest) (*sessionv1.GetTaskResponse, error) {
	state, address, err := s.owner.Tasks().Get(ctx, req.GetPrincipal().GetId(), req.GetTaskId())
	if err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.GetTaskResponse{Task: state, Address: address}, nil
}

// UpdateTask implements sessionv1.TaskServiceServer.
func (s *Service) UpdateTask(ctx context.Context, req *sessionv1.UpdateTaskRequest) (*sessionv1.UpdateTaskResponse, error) {
	if err := jsonrpc.Check(req.GetInputResponses()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.owner.Tasks().Update(ctx, req.GetPrincipal().GetId(), req.GetTaskId(), req.GetInputResponses()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.UpdateTaskResponse{}, nil
}

// CancelTask implements sessionv1.TaskServiceServer.
func (s *Service) CancelTask(ctx context.Context, req *sessionv1.CancelTaskRequest) (*sessionv1.CancelTaskResponse, error) {
	if err := s.owner.Tasks().Cancel(ctx, req.GetPrincipal().GetId(), req.GetTaskId()); err != nil {
		return nil, s.status(err)
	}
	return &sessionv1.CancelTaskResponse{}, nil
}

// WatchTask implements sessionv1.TaskServiceServer.
func (s *Service) WatchTask(req *sessionv1.WatchTaskRequest, to grpc.ServerStreamingServer[sessionv1.WatchTaskResponse]) error {
	err := s.owner.Tasks().Watch(to.Context(), req.GetPrincipal().GetId(), req.GetTaskId(), func(state json.RawMessage) error {
		return to.Send(&sessionv1.WatchTaskResponse{Task: state})
	})
	return s.status(err)
}
