package usage

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// AuditClient is the part of the metrics service's client that an Auditor uses.
type AuditClient interface {
	RecordAudit(context.Context, *metricsv1.RecordAuditRequest, ...grpc.CallOption) (*metricsv1.RecordAuditResponse, error)
}

// Auditor delivers audit events to the metrics service, each once. Those that wait while the service is away are
// held in memory, so they end with the process. Safe for concurrent use.
type Auditor struct {
	client  AuditClient
	log     *slog.Logger
	waiting chan *metricsv1.AuditEvent
	dropped atomic.Uint64
}

// Bounds of an Auditor.
const (
	auditWaiting = 10_000
	auditBatch   = 500
	auditRetry   = 2 * time.Second
	auditFinal   = 3 * time.Second
)

// NewAuditor makes an Auditor; Run delivers. log may be nil.
func NewAuditor(client AuditClient, log *slog.Logger) *Auditor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Auditor{client: client, log: log, waiting: make(chan *metricsv1.AuditEvent, auditWaiting)}
}

// Record takes an event. It never waits: beyond what can be held events are dropped, counted and logged.
func (a *Auditor) Record(_ context.Context, e *metricsv1.AuditEvent) {
	select {
	case a.waiting <- e:
	default:
		a.dropped.Add(1)
		a.log.Error("an audit event was dropped: too many wait for the metrics service", "id", e.GetId(), "principal", e.GetPrincipal(), "method", e.GetMethod(), "object", e.GetObject(), "outcome", e.GetOutcome())
	}
}

// Dropped is how many events were dropped.
func (a *Auditor) Dropped() uint64 { return a.dropped.Load() }

// Run delivers until ctx ends, and then for a moment what is left.
func (a *Auditor) Run(ctx context.Context) error {
	var batch []*metricsv1.AuditEvent
	for {
		if len(batch) == 0 {
			select {
			case e := <-a.waiting:
				batch = append(batch, e)
			case <-ctx.Done():
				a.finish(batch)
				return nil
			}
		}
		batch = a.fill(batch)
		if a.deliver(ctx, batch) == nil {
			batch = batch[:0]
			continue
		}
		select {
		case <-time.After(auditRetry):
		case <-ctx.Done():
			a.finish(batch)
			return nil
		}
	}
}

// fill adds what waits to a batch.
func (a *Auditor) fill(batch []*metricsv1.AuditEvent) []*metricsv1.AuditEvent {
	for len(batch) < auditBatch {
		select {
		case e := <-a.waiting:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// deliver sends a batch; the service knows events that come again by their ids.
func (a *Auditor) deliver(ctx context.Context, batch []*metricsv1.AuditEvent) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := a.client.RecordAudit(ctx, &metricsv1.RecordAuditRequest{Events: batch})
	return err
}

func (a *Auditor) finish(batch []*metricsv1.AuditEvent) {
	ctx, cancel := context.WithTimeout(context.Background(), auditFinal)
	defer cancel()
	for batch = a.fill(batch); len(batch) > 0; batch = a.fill(batch[:0]) {
		if err := a.deliver(ctx, batch); err != nil {
			n := uint64(len(batch) + len(a.waiting))
			a.dropped.Add(n)
			a.log.Error("audit events were dropped: the metrics service is away and the process ends", "events", n, "error", err)
			return
		}
	}
}
