// Package sessions keeps what became of sessions: opened, adopted, closed. It must not know what a session is. Start
// at [History].
package sessions

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// History is sessions' events in a store. Safe for concurrent use.
type History struct {
	Store store.Sessions
	Clock func() time.Time
	// Keep is how long events are kept.
	Keep time.Duration
}

// Limits of events in an answer.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Record keeps events, each id once.
func (h *History) Record(ctx context.Context, events []*metricsv1.SessionEvent) error {
	kept := make([]store.SessionEvent, len(events))
	for i, e := range events {
		id, err := uuid.Parse(e.GetId())
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "events[%d].id is no UUID", i)
		}
		if !e.GetAt().IsValid() {
			return status.Errorf(codes.InvalidArgument, "events[%d].at is missing or out of range", i)
		}
		kept[i] = store.SessionEvent{
			ID:        id.String(),
			At:        e.GetAt().AsTime().Truncate(time.Microsecond),
			Node:      store.Text(e.GetNode()),
			Session:   store.Text(e.GetSessionId()),
			Principal: store.Text(e.GetPrincipal()),
			Kind:      int16(e.GetKind()),
			Reason:    store.Text(e.GetReason()),
		}
	}
	return h.Store.AddSessionEvents(ctx, kept)
}

// List returns events as asked, newest first.
func (h *History) List(ctx context.Context, req *metricsv1.ListSessionEventsRequest) ([]*metricsv1.SessionEvent, error) {
	q := store.SessionQuery{
		Until: h.Clock(), Principal: store.Text(req.GetPrincipal()), Session: store.Text(req.GetSessionId()), Limit: defaultLimit,
	}
	if t := req.GetUntil(); t != nil {
		if !t.IsValid() {
			return nil, status.Error(codes.InvalidArgument, "until is out of range")
		}
		q.Until = t.AsTime()
	}
	q.Since = q.Until.Add(-24 * time.Hour)
	if t := req.GetSince(); t != nil {
		if !t.IsValid() {
			return nil, status.Error(codes.InvalidArgument, "since is out of range")
		}
		q.Since = t.AsTime()
	}
	if n := req.GetLimit(); n > 0 {
		q.Limit = int(min(n, maxLimit))
	}
	kept, err := h.Store.SessionEvents(ctx, q)
	if err != nil {
		return nil, err
	}
	events := make([]*metricsv1.SessionEvent, len(kept))
	for i, e := range kept {
		events[i] = &metricsv1.SessionEvent{
			Id: e.ID, At: timestamppb.New(e.At), Node: e.Node, SessionId: e.Session, Principal: e.Principal,
			Kind: metricsv1.SessionEvent_Kind(e.Kind), Reason: e.Reason,
		}
	}
	return events, nil
}

// Expire forgets events that are older than is kept.
func (h *History) Expire(ctx context.Context) error {
	return h.Store.DropSessionEvents(ctx, h.Clock().Add(-h.Keep))
}
