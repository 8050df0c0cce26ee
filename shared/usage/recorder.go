package usage

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// RecorderClient is the part of the metrics service's client that a Recorder uses.
type RecorderClient interface {
	RecordUsage(context.Context, *metricsv1.RecordUsageRequest, ...grpc.CallOption) (*metricsv1.RecordUsageResponse, error)
}

// RecorderConfig is what a Recorder needs.
type RecorderConfig struct {
	// Client of the metrics service.
	Client RecorderClient
	// Node is this process's name. The Recorder adds what makes this run of it unique.
	Node string
	// Log hears when counts cannot be delivered, and when they can again; none when nil.
	Log *slog.Logger
	// Interval between deliveries, and between attempts while the service is away; 5 s when 0.
	Interval time.Duration
	// Keys is about how many different things are counted apart at a time; 4096 when 0. Beyond it names become
	// [Other], and in the end everything does.
	Keys int
	// Waiting is how many rows wait while the service is away, about 200 bytes each; 100,000 when 0. Beyond it the
	// oldest are dropped.
	Waiting int
}

// Recorder counts calls in memory and delivers the counts to the metrics service, by the minute, each once. Safe for
// concurrent use.
type Recorder struct {
	client   RecorderClient
	log      *slog.Logger
	node     string
	interval time.Duration

	cells    *cells
	queue    *queue
	sequence uint64    // of the last batch; only Run's goroutine counts
	since    time.Time // when counting towards the next batch began
	failing  bool      // only the sender's
	dropped  atomic.Uint64
}

const (
	// batchRows keeps the longest batch well under gRPC's 4 MiB.
	batchRows = 2000
	// sendTimeout bounds one attempt.
	sendTimeout = 5 * time.Second
	// stopTimeout bounds the delivery of what is left when Run ends; stopPause is between two attempts then.
	stopTimeout = 3 * time.Second
	stopPause   = 100 * time.Millisecond
	// maxAge is how long a batch is sent again and again. The service recognises one for longer; after that it would
	// count it twice.
	maxAge = 24 * time.Hour
)

// NewRecorder makes a Recorder. It counts at once; Run delivers.
func NewRecorder(c RecorderConfig) *Recorder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Interval <= 0 {
		c.Interval = 5 * time.Second
	}
	if c.Keys <= 0 {
		c.Keys = 4096
	}
	if c.Waiting <= 0 {
		c.Waiting = 100_000
	}
	return &Recorder{
		client:   c.Client,
		log:      c.Log,
		node:     c.Node + "/" + uuid.NewString(),
		interval: c.Interval,
		cells:    newCells(c.Keys),
		queue:    newQueue(c.Waiting),
		since:    time.Now(),
	}
}

// Record counts a call that took d. It never waits for the service. Strings are copied where they are kept.
func (r *Recorder) Record(principal, server, method, name string, failed bool, d time.Duration) {
	r.cells.add(key{principal, server, method, name}, failed, d)
}

// Dropped is how many calls were counted and then dropped, undelivered.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Run delivers until ctx ends, then once more what is left: stop what records before it.
func (r *Recorder) Run(ctx context.Context) error {
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		r.send(ctx)
	}()
	for ctx.Err() == nil {
		turn := r.since.Truncate(time.Minute).Add(time.Minute)
		select {
		case <-ctx.Done():
		case <-time.After(min(r.interval, time.Until(turn))):
			// While batches wait, counts go on adding up until the minute's turn: it makes fewer rows to keep.
			if now := time.Now(); !now.Before(turn) || r.queue.empty() {
				r.collect(now)
			}
		}
	}
	<-sending
	r.collect(time.Now())
	r.finish(ctx)
	return nil
}

// finish delivers what is left, within a bound.
func (r *Recorder) finish(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	before := r.Dropped()
	for b := r.queue.pop(); b != nil; b = r.queue.pop() {
		delivered := r.deliver(bounded, b)
		for !delivered && bounded.Err() == nil {
			pause(bounded, stopPause)
			delivered = r.deliver(bounded, b)
		}
		if !delivered {
			r.drop(b)
		}
	}
	if n := r.Dropped() - before; n > 0 {
		r.log.Warn("usage was not delivered before the end", "calls_dropped", n)
	}
}

// collect makes batches of what was counted since the last time: all of one minute.
func (r *Recorder) collect(now time.Time) {
	minute := timestamppb.New(r.since.Truncate(time.Minute))
	r.since = now
	var rows []*metricsv1.Usage
	r.cells.collect(func(k key, c cell) {
		rows = append(rows, &metricsv1.Usage{
			Minute:    minute,
			Principal: k.principal,
			Server:    k.server,
			Method:    k.method,
			Name:      k.name,
			Calls:     c.calls,
			Errors:    c.errors,
			Micros:    c.nanos / uint64(time.Microsecond),
		})
	})
	for len(rows) > 0 {
		n := min(len(rows), batchRows)
		r.sequence++
		dropped := r.queue.push(&batch{made: now, request: &metricsv1.RecordUsageRequest{
			Node: r.node, Sequence: r.sequence, Usage: rows[:n:n],
		}})
		r.drop(dropped...)
		rows = rows[n:]
	}
}

// send delivers batches in order until ctx ends.
func (r *Recorder) send(ctx context.Context) {
	for ctx.Err() == nil {
		b := r.queue.pop()
		if b == nil {
			select {
			case <-ctx.Done():
			case <-r.queue.wake:
			}
			continue
		}
		if r.deliver(ctx, b) {
			continue
		}
		if !r.queue.unpop(b) {
			r.drop(b)
		}
		pause(ctx, r.interval)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deliver is true where the batch is done with: the service has it, or never will.
func (r *Recorder) deliver(ctx context.Context, b *batch) bool {
	if time.Since(b.made) > maxAge {
		r.log.Warn("usage is too old to be delivered and is dropped", "made", b.made)
		r.drop(b)
		return true
	}
	bounded, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	_, err := r.client.RecordUsage(bounded, b.request)
	switch {
	case err == nil:
		if r.failing {
			r.log.Info("usage is delivered again", "calls_dropped", r.Dropped())
		}
		r.failing = false
		return true
	case status.Code(err) == codes.InvalidArgument: // a bug; the next batch may well pass
		r.log.Error("the metrics service refused a batch of usage; it is dropped", "error", err)
		r.drop(b)
		return true
	case ctx.Err() == nil && !r.failing:
		r.failing = true
		r.log.Warn("usage cannot be delivered; it waits", "error", err)
	}
	return false
}

func (r *Recorder) drop(batches ...*batch) {
	for _, b := range batches {
		r.dropped.Add(b.calls())
	}
}
