package metrics

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// RecordUsage implements MetricsServiceServer.
func (s *Service) RecordUsage(ctx context.Context, req *metricsv1.RecordUsageRequest) (*metricsv1.RecordUsageResponse, error) {
	if err := s.ingest.Record(ctx, req); err != nil {
		return nil, s.status(ctx, "record usage", err)
	}
	return &metricsv1.RecordUsageResponse{}, nil
}

// QueryUsage implements MetricsServiceServer.
func (s *Service) QueryUsage(ctx context.Context, req *metricsv1.QueryUsageRequest) (*metricsv1.QueryUsageResponse, error) {
	usage, err := s.rollup.Query(ctx, req)
	if err != nil {
		return nil, s.status(ctx, "query usage", err)
	}
	return &metricsv1.QueryUsageResponse{Usage: usage}, nil
}

// RecordAudit implements MetricsServiceServer.
func (s *Service) RecordAudit(ctx context.Context, req *metricsv1.RecordAuditRequest) (*metricsv1.RecordAuditResponse, error) {
	if err := s.audit.Record(ctx, req.GetEvents()); err != nil {
		return nil, s.status(ctx, "record audit events", err)
	}
	return &metricsv1.RecordAuditResponse{}, nil
}

// ListAudit implements MetricsServiceServer.
func (s *Service) ListAudit(ctx context.Context, req *metricsv1.ListAuditRequest) (*metricsv1.ListAuditResponse, error) {
	events, err := s.audit.List(ctx, req.GetBefore(), req.GetLimit())
	if err != nil {
		return nil, s.status(ctx, "list audit events", err)
	}
	return &metricsv1.ListAuditResponse{Events: events}, nil
}

// Heartbeat implements MetricsServiceServer.
func (s *Service) Heartbeat(ctx context.Context, req *metricsv1.HeartbeatRequest) (*metricsv1.HeartbeatResponse, error) {
	nodes, err := s.membership.Beat(ctx, req.GetNode(), req.GetLeaving())
	if err != nil {
		return nil, s.status(ctx, "note a heartbeat", err)
	}
	return &metricsv1.HeartbeatResponse{Nodes: uint32(nodes)}, nil
}

// ListNodes implements MetricsServiceServer.
func (s *Service) ListNodes(ctx context.Context, _ *metricsv1.ListNodesRequest) (*metricsv1.ListNodesResponse, error) {
	nodes, err := s.membership.List(ctx)
	if err != nil {
		return nil, s.status(ctx, "list nodes", err)
	}
	return &metricsv1.ListNodesResponse{Nodes: nodes}, nil
}

// status is where errors become gRPC's. Those that the parts made for the caller pass; the end of the call's own
// context is told as such; the rest is the store's, for the log, and worth another try.
func (s *Service) status(ctx context.Context, what string, err error) error {
	if refusal, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return refusal
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	s.log.Error("the store failed", "doing", what, "error", err)
	return status.Errorf(codes.Unavailable, "could not %s: the metrics database does not answer; try again", what)
}
