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
	// Dir holds the spool in which counts wait; processes may share it.
	Dir string
	// Limit of what waits there, in bytes on disk; 256 MiB when 0. Beyond it the oldest are dropped.
	Limit int64
}

// Recorder counts calls in memory and delivers the counts to the metrics service, by the minute, each once. Safe for
// concurrent use.
type Recorder struct {
	log      *slog.Logger
	node     string
	interval time.Duration

	cells    *cells
	spool    *spool.Spool
	sender   *sender
	sequence uint64    // of the last batch; only Run's goroutine counts
	since    time.Time // when counting towards the next batch began
	dropped  atomic.Uint64
}

// batchRows keeps the longest batch well under gRPC's 4 MiB.
const batchRows = 1000

const usageLimit = 256 << 20

// NewRecorder opens the spool. The Recorder counts at once; Run delivers, Close ends it.
func NewRecorder(c RecorderConfig) (*Recorder, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Interval <= 0 {
		c.Interval = 5 * time.Second
	}
	if c.Keys <= 0 {
		c.Keys = 4096
	}
	if c.Limit <= 0 {
		c.Limit = usageLimit
	}
	r := &Recorder{
		log:      c.Log,
		node:     c.Node + "/" + uuid.NewString(),
		interval: c.Interval,
		cells:    newCells(c.Keys),
		since:    time.Now(),
	}
	var err error
	r.spool, err = spool.Open(spool.Config{Dir: filepath.Join(c.Dir, "usage"), Limit: c.Limit, Overwrite: true, Dropped: r.lost})
	if err != nil {
		return nil, err
	}
	r.sender = &sender{what: "usage", spool: r.spool, retry: c.Interval, log: c.Log, refused: r.lost, send: func(ctx context.Context, entry []byte) error {
		req := &metricsv1.RecordUsageRequest{}
		if err := proto.Unmarshal(entry, req); err != nil {
			return err
		}
		_, err := c.Client.RecordUsage(ctx, req) // which knows a batch that comes again by its node and sequence
		return err
	}}
	return r, nil
}

// Record counts a call that took d, of a principal and the tenant that it belongs to, if any. It never waits for the
// service. Strings are copied where they are kept.
func (r *Recorder) Record(principal, tenant, server, method, name string, failed bool, d time.Duration) {
	r.cells.add(key{principal, server, method, name}, tenant, failed, d)
}

// Dropped is how many calls were counted and then dropped, undelivered.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Waiting is how many entries are on disk.
func (r *Recorder) Waiting() int { return r.spool.Waiting() }

// Run delivers until ctx ends, then what is left: stop what records before it. What the service does not take in
// time stays in the spool. A process that is killed loses what it counted since the last interval.
func (r *Recorder) Run(ctx context.Context) error {
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		r.sender.run(ctx)
	}()
	for ctx.Err() == nil {
		turn := r.since.Truncate(time.Minute).Add(time.Minute)
		select {
		case <-ctx.Done():
		case <-time.After(min(r.interval, time.Until(turn))):
			r.collect(time.Now())
		}
	}
	<-sending
	r.collect(time.Now())
	r.sender.finish(ctx)
	return nil
}

// Close lets go of the spool, after Run.
func (r *Recorder) Close() error { return r.spool.Close() }

// collect makes batches of what was counted since the last time: all of one minute.
func (r *Recorder) collect(now time.Time) {
	minute := timestamppb.New(r.since.Truncate(time.Minute))
	r.since = now
	var rows []*metricsv1.Usage
	r.cells.collect(func(k key, c *cell) {
		row := &metricsv1.Usage{
			Minute:    minute,
			Principal: k.principal,
			Tenant:    c.tenant,
			Server:    k.server,
			Method:    k.method,
			Name:      k.name,
			Calls:     c.calls,
			Errors:    c.errors,
			Micros:    c.nanos / uint64(time.Microsecond),
		}
		for bucket, n := range c.took {
			if n > 0 {
				row.Buckets = append(row.Buckets, uint32(bucket))
				row.BucketCalls = append(row.BucketCalls, uint64(n))
			}
		}
		rows = append(rows, row)
	})
	for len(rows) > 0 {
		n := min(len(rows), batchRows)
		r.sequence++
		r.keep(&metricsv1.RecordUsageRequest{Node: r.node, Sequence: r.sequence, Usage: rows[:n]})
		rows = rows[n:]
	}
}

func (r *Recorder) keep(batch *metricsv1.RecordUsageRequest) {
	entry, err := proto.Marshal(batch)
	if err == nil {
		err = r.spool.Add(entry)
	}
	if err != nil {
		r.log.Error("usage could not be kept and is dropped", "error", err)
		r.lost(entry)
	}
}

// lost counts the calls of an entry that will not be delivered; nil is one that can't be read.
func (r *Recorder) lost(entry []byte) {
	batch := &metricsv1.RecordUsageRequest{}
	if entry == nil || proto.Unmarshal(entry, batch) != nil {
		r.log.Error("a damaged entry of the usage spool was dropped")
	}
	for _, u := range batch.GetUsage() {
		r.dropped.Add(u.GetCalls())
	}
}
