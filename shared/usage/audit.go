package usage

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/spool"
)

// AuditClient is the part of the metrics service's client that an Auditor uses.
type AuditClient interface {
	RecordAudit(context.Context, *metricsv1.RecordAuditRequest, ...grpc.CallOption) (*metricsv1.RecordAuditResponse, error)
}

// AuditorConfig is what an Auditor needs.
type AuditorConfig struct {
	// Client of the metrics service.
	Client AuditClient
	// Dir holds the spool; processes may share it.
	Dir string
	// Limit of what waits there, in bytes on disk; 64 MiB when 0, about 16,000 events.
	Limit int64
	// Log hears when events cannot be delivered; none when nil.
	Log *slog.Logger
}

// Auditor delivers audit events to the metrics service, each once. Safe for concurrent use.
type Auditor struct {
	log     *slog.Logger
	spool   *spool.Spool
	sender  *sender
	dropped atomic.Uint64

	writing sync.Mutex // held while a group is written
	mu      sync.Mutex
	group   *group // takes events until its turn to be written
}

// group is what callers write together, so that they wait for the disk once.
type group struct {
	events []*metricsv1.AuditEvent
	done   chan struct{}
}

const (
	auditLimit = 64 << 20
	// auditGroup is as many events as the service takes at once.
	auditGroup = 1000
	auditRetry = 2 * time.Second
)

// NewAuditor opens the spool; Run delivers, Close ends it.
func NewAuditor(c AuditorConfig) (*Auditor, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Limit <= 0 {
		c.Limit = auditLimit
	}
	a := &Auditor{log: c.Log}
	var err error
	a.spool, err = spool.Open(spool.Config{Dir: filepath.Join(c.Dir, "audit"), Limit: c.Limit, Sync: true, Dropped: a.lost})
	if err != nil {
		return nil, err
	}
	a.sender = &sender{what: "audit", spool: a.spool, retry: auditRetry, log: c.Log, refused: a.lost, send: func(ctx context.Context, entry []byte) error {
		req := &metricsv1.RecordAuditRequest{}
		if err := proto.Unmarshal(entry, req); err != nil {
			return err
		}
		_, err := c.Client.RecordAudit(ctx, req) // which knows events that come again by their ids
		return err
	}}
	return a, nil
}

// Record keeps an event: when it returns the event outlives the process and the machine's power. It waits for the
// disk, never for the service. An event that finds no room is logged, counted and dropped.
func (a *Auditor) Record(_ context.Context, e *metricsv1.AuditEvent) {
	a.mu.Lock()
	g := a.group
	if g != nil && len(g.events) < auditGroup {
		g.events = append(g.events, e)
		a.mu.Unlock()
		<-g.done
		return
	}
	g = &group{events: []*metricsv1.AuditEvent{e}, done: make(chan struct{})}
	a.group = g
	a.mu.Unlock()

	a.writing.Lock()
	a.mu.Lock()
	if a.group == g {
		a.group = nil
	}
	a.mu.Unlock()
	a.keep(g.events)
	a.writing.Unlock()
	close(g.done)
}

func (a *Auditor) keep(events []*metricsv1.AuditEvent) {
	entry, err := proto.Marshal(&metricsv1.RecordAuditRequest{Events: events})
	if err == nil {
		err = a.spool.Add(entry)
	}
	if err == nil {
		return
	}
	a.dropped.Add(uint64(len(events)))
	for _, e := range events {
		a.log.Error("an audit event was dropped", "error", err, "id", e.GetId(), "principal", e.GetPrincipal(), "method", e.GetMethod(), "object", e.GetObject(), "outcome", e.GetOutcome())
	}
}

// lost counts an entry that will not be delivered; nil is one that can't be read.
func (a *Auditor) lost(entry []byte) {
	req := &metricsv1.RecordAuditRequest{}
	if proto.Unmarshal(entry, req) != nil || len(req.GetEvents()) == 0 {
		a.log.Error("a damaged entry of the audit spool was dropped")
	}
	a.dropped.Add(uint64(max(len(req.GetEvents()), 1)))
}

// Dropped is how many events were dropped.
func (a *Auditor) Dropped() uint64 { return a.dropped.Load() }

// Waiting is how many entries are on disk.
func (a *Auditor) Waiting() int { return a.spool.Waiting() }

// Run delivers until ctx ends, and then for a moment what is left.
func (a *Auditor) Run(ctx context.Context) error {
	a.sender.run(ctx)
	a.sender.finish(ctx)
	return nil
}

// Close lets go of the spool, after Run and the last Record.
func (a *Auditor) Close() error { return a.spool.Close() }
