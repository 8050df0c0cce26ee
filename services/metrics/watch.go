package metrics

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/services/metrics/live"
	"erlmcp.dev/shared/access"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// WatchEvents implements MetricsServiceServer.
func (s *Service) WatchEvents(req *metricsv1.WatchEventsRequest, stream grpc.ServerStreamingServer[metricsv1.WatchEventsResponse]) error {
	ctx := stream.Context()
	if err := onlyOwn(ctx, &req.Principal); err != nil {
		return err
	}
	if !mayAudit(ctx) {
		if slices.Contains(req.GetKinds(), metricsv1.EventKind_EVENT_KIND_AUDIT) {
			return status.Error(codes.PermissionDenied, "the audit trail is for the role admin")
		}
		if len(req.GetKinds()) == 0 {
			req.Kinds = []metricsv1.EventKind{metricsv1.EventKind_EVENT_KIND_USAGE, metricsv1.EventKind_EVENT_KIND_SESSION}
		}
	}
	err := s.live.Watch(ctx, func(e *live.Event) bool { return wanted(req, e) }, stream.Send)
	if errors.Is(err, live.ErrClosed) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return err
}

func mayAudit(ctx context.Context) bool {
	caller, ok := access.FromContext(ctx)
	return !ok || caller.Method == access.MethodService || caller.Role == registryv1.Role_ROLE_ADMIN
}

// wanted reports whether an event is what was asked for.
func wanted(req *metricsv1.WatchEventsRequest, e *live.Event) bool {
	kind, principal := metricsv1.EventKind_EVENT_KIND_UNSPECIFIED, ""
	switch what := e.GetEvent().(type) {
	case *metricsv1.WatchEventsResponse_Usage:
		kind, principal = metricsv1.EventKind_EVENT_KIND_USAGE, what.Usage.GetPrincipal()
	case *metricsv1.WatchEventsResponse_Audit:
		kind, principal = metricsv1.EventKind_EVENT_KIND_AUDIT, what.Audit.GetPrincipal()
	case *metricsv1.WatchEventsResponse_Session:
		kind, principal = metricsv1.EventKind_EVENT_KIND_SESSION, what.Session.GetPrincipal()
	}
	return (len(req.GetKinds()) == 0 || slices.Contains(req.GetKinds(), kind)) &&
		(req.GetPrincipal() == "" || req.GetPrincipal() == principal) &&
		(req.GetTenant() == "" || req.GetTenant() == e.GetUsage().GetTenant())
}

func (s *Service) publishUsage(usage []*metricsv1.Usage) {
	events := make([]*live.Event, len(usage))
	for i, u := range usage {
		events[i] = &live.Event{Event: &metricsv1.WatchEventsResponse_Usage{Usage: &metricsv1.Usage{
			Minute: u.GetMinute(), Principal: u.GetPrincipal(), Tenant: u.GetTenant(), Server: u.GetServer(), Method: u.GetMethod(), Name: u.GetName(),
			Calls: u.GetCalls(), Errors: u.GetErrors(), Micros: u.GetMicros(),
		}}}
	}
	s.live.Publish(events)
}

func (s *Service) publishAudit(audit []*metricsv1.AuditEvent) {
	events := make([]*live.Event, len(audit))
	for i, a := range audit {
		events[i] = &live.Event{Event: &metricsv1.WatchEventsResponse_Audit{Audit: a}}
	}
	s.live.Publish(events)
}

func (s *Service) publishSessions(sessions []*metricsv1.SessionEvent) {
	events := make([]*live.Event, len(sessions))
	for i, e := range sessions {
		events[i] = &live.Event{Event: &metricsv1.WatchEventsResponse_Session{Session: e}}
	}
	s.live.Publish(events)
}
