// Package audit keeps the audit trail: who did or tried what, and how it ended. Events are never changed, and
// removed only where they are kept for a limited time. Start at [Trail].
package audit

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Trail is the audit trail in a store. Safe for concurrent use.
type Trail struct {
	Store store.Audit
	Clock func() time.Time
	// Keep is how long events are kept; for ever when 0.
	Keep time.Duration
}

// Expire forgets events that are older than is kept.
func (t *Trail) Expire(ctx context.Context) error {
	if t.Keep <= 0 {
		return nil
	}
	return t.Store.DropEvents(ctx, t.Clock().Add(-t.Keep))
}

// Limits of events in an answer.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Record keeps events, each id once. Once it returns nil they outlive the process.
func (t *Trail) Record(ctx context.Context, events []*metricsv1.AuditEvent) error {
	kept := make([]store.Event, len(events))
	for i, e := range events {
		id, err := uuid.Parse(e.GetId())
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "events[%d].id is no UUID", i)
		}
		if !e.GetAt().IsValid() {
			return status.Errorf(codes.InvalidArgument, "events[%d].at is missing or out of range", i)
		}
		kept[i] = store.Event{
			ID:        id.String(),
			At:        e.GetAt().AsTime().Truncate(time.Microsecond),
			Node:      store.Text(e.GetNode()),
			Principal: store.Text(e.GetPrincipal()),
			Method:    store.Text(e.GetMethod()),
			Object:    store.Text(e.GetObject()),
			Outcome:   store.Text(e.GetOutcome()),
		}
	}
	return t.Store.AddEvents(ctx, kept)
}

// List returns events, newest first: those before the event with the id in before, or the newest where it is empty.
func (t *Trail) List(ctx context.Context, before string, limit uint32) ([]*metricsv1.AuditEvent, error) {
	if before != "" {
		id, err := uuid.Parse(before)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, "before is no UUID: give the id of the last event you have")
		}
		before = id.String()
	}
	if limit == 0 {
		limit = defaultLimit
	}
	kept, err := t.Store.Events(ctx, before, int(min(limit, maxLimit)))
	if errors.Is(err, store.ErrNoEvent) {
		return nil, status.Errorf(codes.NotFound, "there is no event %s: leave before empty to start at the newest", before)
	}
	if err != nil {
		return nil, err
	}
	events := make([]*metricsv1.AuditEvent, len(kept))
	for i, e := range kept {
		events[i] = &metricsv1.AuditEvent{
			Id:        e.ID,
			At:        timestamppb.New(e.At),
			Node:      e.Node,
			Principal: e.Principal,
			Method:    e.Method,
			Object:    e.Object,
			Outcome:   e.Outcome,
		}
	}
	return events, nil
}
