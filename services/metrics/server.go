package metrics

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
)

// RecordUsage implements MetricsServiceServer.
func (s *Service) RecordUsage(ctx context.Context, req *metricsv1.RecordUsageRequest) (*metricsv1.RecordUsageResponse, error) {
	added, err := s.ingest.Record(ctx, req)
	if err != nil {
		return nil, s.status(ctx, "record usage", err)
	}
	if added { // that it came again the sender need not know
		s.publishUsage(req.GetUsage())
	}
	return &metricsv1.RecordUsageResponse{}, nil
}

// QueryUsage implements MetricsServiceServer.
func (s *Service) QueryUsage(ctx context.Context, req *metricsv1.QueryUsageRequest) (*metricsv1.QueryUsageResponse, error) {
	if err := onlyOwn(ctx, &req.Principal); err != nil {
		return nil, err
	}
	usage, err := s.rollup.Query(ctx, req)
	if err != nil {
		return nil, s.status(ctx, "query usage", err)
	}
	return &metricsv1.QueryUsageResponse{Usage: usage}, nil
}

const (
	// exportTimeout bounds an export: its reader holds a connection to the database.
	exportTimeout = 10 * time.Minute
	// maxExports are how many there are at a time, whoever asks: fewer than a database's connections, which are four at
	// least, so that what is recorded finds one.
	maxExports = 2
)

// ExportUsage implements MetricsServiceServer.
func (s *Service) ExportUsage(req *metricsv1.ExportUsageRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	select {
	case s.exports <- struct{}{}:
		defer func() { <-s.exports }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d exports are under way, which is the most; try again once one has ended", maxExports)
	}
	ctx, cancel := context.WithTimeout(stream.Context(), exportTimeout)
	defer cancel()
	query := req.GetQuery()
	if query == nil {
		query = &metricsv1.QueryUsageRequest{}
	}
	if err := onlyOwn(ctx, &query.Principal); err != nil {
		return err
	}
	err := s.rollup.Export(ctx, query, req.GetFormat(), func(contentType string, piece []byte) error {
		return stream.Send(&httpbody.HttpBody{ContentType: contentType, Data: piece})
	})
	if err != nil {
		return s.status(ctx, "export usage", err)
	}
	return nil
}

// onlyOwn narrows what a principal with no role asks for to what is its own. Calls without a principal do not pass
// the server's checks.
func onlyOwn(ctx context.Context, principal *string) error {
	caller, ok := access.FromContext(ctx)
	if !ok || caller.Method == access.MethodService || caller.Role == registryv1.Role_ROLE_ADMIN || caller.Role == registryv1.Role_ROLE_VIEWER {
		return nil
	}
	if *principal != "" && *principal != caller.ID {
		return status.Error(codes.PermissionDenied, "only what is your own: leave principal empty; more needs the role viewer or admin")
	}
	*principal = caller.ID
	return nil
}

// RecordAudit implements MetricsServiceServer.
func (s *Service) RecordAudit(ctx context.Context, req *metricsv1.RecordAuditRequest) (*metricsv1.RecordAuditResponse, error) {
	if err := s.audit.Record(ctx, req.GetEvents()); err != nil {
		return nil, s.status(ctx, "record audit events", err)
	}
	s.publishAudit(req.GetEvents())
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

// RecordSessionEvents implements MetricsServiceServer.
func (s *Service) RecordSessionEvents(ctx context.Context, req *metricsv1.RecordSessionEventsRequest) (*metricsv1.RecordSessionEventsResponse, error) {
	if err := s.sessions.Record(ctx, req.GetEvents()); err != nil {
		return nil, s.status(ctx, "record sessions' events", err)
	}
	s.publishSessions(req.GetEvents())
	return &metricsv1.RecordSessionEventsResponse{}, nil
}

// ListSessionEvents implements MetricsServiceServer.
func (s *Service) ListSessionEvents(ctx context.Context, req *metricsv1.ListSessionEventsRequest) (*metricsv1.ListSessionEventsResponse, error) {
	if err := onlyOwn(ctx, &req.Principal); err != nil {
		return nil, err
	}
	events, err := s.sessions.List(ctx, req)
	if err != nil {
		return nil, s.status(ctx, "list sessions' events", err)
	}
	return &metricsv1.ListSessionEventsResponse{Events: events}, nil
}

// Heartbeat implements MetricsServiceServer.
func (s *Service) Heartbeat(ctx context.Context, req *metricsv1.HeartbeatRequest) (*metricsv1.HeartbeatResponse, error) {
	count, err := s.membership.Beat(ctx, req.GetNode(), req.GetLeaving())
	if err != nil {
		return nil, s.status(ctx, "note a heartbeat", err)
	}
	return &metricsv1.HeartbeatResponse{Nodes: uint32(count.Living), Expected: uint32(count.Expected)}, nil
}

// ListNodes implements MetricsServiceServer.
func (s *Service) ListNodes(ctx context.Context, _ *metricsv1.ListNodesRequest) (*metricsv1.ListNodesResponse, error) {
	living, missing, err := s.membership.List(ctx)
	if err != nil {
		return nil, s.status(ctx, "list nodes", err)
	}
	return &metricsv1.ListNodesResponse{Nodes: living, Missing: missing}, nil
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
	s.log.ErrorContext(ctx, "the store failed", "doing", what, "error", err)
	return status.Errorf(codes.Unavailable, "could not %s: the metrics database does not answer; try again", what)
}
