package usage

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/spool"
)

// HistoryClient is the part of the metrics service's client that a Historian uses.
type HistoryClient interface {
	RecordSessionEvents(context.Context, *metricsv1.RecordSessionEventsRequest, ...grpc.CallOption) (*metricsv1.RecordSessionEventsResponse, error)
}

// HistorianConfig is what a Historian needs.
type HistorianConfig struct {
	// Client of the metrics service.
	Client HistoryClient
	// Node is this process's name.
	Node string
	// Dir holds the spool; processes may share it.
	Dir string
	// Limit of what waits there, in bytes on disk; 64 MiB when 0. Beyond it the oldest are dropped.
	Limit int64
	// Log hears when events cannot be delivered; none when nil.
	Log *slog.Logger
}

// Historian delivers what became of sessions to the metrics service, each event once. Safe for concurrent use.
type Historian struct {
	node    string
	log     *slog.Logger
	fresh   chan *metricsv1.SessionEvent
	spool   *spool.Spool
	sender  *sender
	dropped atomic.Uint64
}

const (
	historyLimit = 64 << 20
	// historyFresh is how many events wait in memory to be written, historyBatch how many are written together, and
	// historyPause how long the first of them waits for others.
	historyFresh = 10_000
	historyBatch = 1000
	historyPause = time.Second
)

// NewHistorian opens the spool; Run delivers, Close ends it.
func NewHistorian(c HistorianConfig) (*Historian, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Limit <= 0 {
		c.Limit = historyLimit
	}
	h := &Historian{node: c.Node, log: c.Log, fresh: make(chan *metricsv1.SessionEvent, historyFresh)}
	var err error
	h.spool, err = spool.Open(spool.Config{Dir: filepath.Join(c.Dir, "sessions"), Limit: c.Limit, Overwrite: true, Dropped: h.lost})
	if err != nil {
		return nil, err
	}
	h.sender = &sender{what: "sessions", spool: h.spool, retry: auditRetry, log: c.Log, refused: h.lost, send: func(ctx context.Context, entry []byte) error {
		req := &metricsv1.RecordSessionEventsRequest{}
		if err := proto.Unmarshal(entry, req); err != nil {
			return err
		}
		_, err := c.Client.RecordSessionEvents(ctx, req) // which knows events that come again by their ids
		return err
	}}
	return h, nil
}

// Record takes an event and fills in its id, time and node. It never waits: an event that finds no room is counted
// and dropped. What was recorded within the last second is lost with a process that is killed.
func (h *Historian) Record(e *metricsv1.SessionEvent) {
	e.Id, e.At, e.Node = uuid.Must(uuid.NewV7()).String(), timestamppb.Now(), h.node
	select {
	case h.fresh <- e:
	default:
		h.dropped.Add(1)
	}
}

// Dropped is how many events were dropped.
func (h *Historian) Dropped() uint64 { return h.dropped.Load() }

// Waiting is how many entries are on disk.
func (h *Historian) Waiting() int { return h.spool.Waiting() }

// Run delivers until ctx ends, and then for a moment what is left: stop what records before it.
func (h *Historian) Run(ctx context.Context) error {
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		h.sender.run(ctx)
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case e := <-h.fresh:
			pause(ctx, historyPause)
			h.keep(e)
		}
	}
	<-sending
	h.keep(nil)
	h.sender.finish(ctx)
	return nil
}

// keep writes first, where it is not nil, and all that waits.
func (h *Historian) keep(first *metricsv1.SessionEvent) {
	var batch []*metricsv1.SessionEvent
	if first != nil {
		batch = append(batch, first)
	}
	for {
		for len(batch) < historyBatch && len(h.fresh) > 0 {
			batch = append(batch, <-h.fresh)
		}
		if len(batch) == 0 {
			return
		}
		entry, err := proto.Marshal(&metricsv1.RecordSessionEventsRequest{Events: batch})
		if err == nil {
			err = h.spool.Add(entry)
		}
		if err != nil {
			h.log.Error("what became of sessions could not be kept and is dropped", "error", err)
			h.dropped.Add(uint64(len(batch)))
		}
		batch = nil
	}
}

// lost counts an entry that will not be delivered; nil is one that can't be read.
func (h *Historian) lost(entry []byte) {
	req := &metricsv1.RecordSessionEventsRequest{}
	if proto.Unmarshal(entry, req) != nil || len(req.GetEvents()) == 0 {
		h.log.Error("a damaged entry of the sessions' spool was dropped")
	}
	h.dropped.Add(uint64(max(len(req.GetEvents()), 1)))
}

// Close lets go of the spool, after Run.
func (h *Historian) Close() error { return h.spool.Close() }
