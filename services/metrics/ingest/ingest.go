// Package ingest takes what nodes have counted. A batch may come several times (its sender did not hear that it
// arrived) and counts once. It must not know how counts are kept or asked for. Start at [Ingest.Record].
package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/latency"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Ingest puts batches into a store. Safe for concurrent use.
type Ingest struct {
	Store store.Usage
	Clock func() time.Time
}

// maxCount bounds each number of a row, so that no sum of sensible length overflows. In microseconds it is nine
// years of calls within one minute.
const maxCount = 1 << 48

// maxAhead is how far a node's clock may be ahead. What it counts beyond counts for now: nothing would ever expire it.
const maxAhead = time.Hour

// Record adds a batch, once: added is false where it was there. It fails with INVALID_ARGUMENT where sending it again
// cannot help.
func (i *Ingest) Record(ctx context.Context, req *metricsv1.RecordUsageRequest) (added bool, err error) {
	if req.GetNode() == "" {
		return false, status.Error(codes.InvalidArgument, "node is empty: a batch needs the name of the node and its run")
	}
	now := i.Clock()
	batch := store.Batch{
		Node:     store.Text(req.GetNode()),
		Sequence: req.GetSequence(),
		At:       now,
		Rows:     make([]store.Row, len(req.GetUsage())),
	}
	for n, u := range req.GetUsage() {
		if !u.GetMinute().IsValid() {
			return false, status.Errorf(codes.InvalidArgument, "usage[%d].minute is missing or out of range", n)
		}
		if max(u.GetCalls(), u.GetErrors(), u.GetMicros()) > maxCount {
			return false, status.Errorf(codes.InvalidArgument, "usage[%d] counts more than %d", n, int64(maxCount))
		}
		took, err := took(u)
		if err != nil {
			return false, status.Errorf(codes.InvalidArgument, "usage[%d].%v", n, err)
		}
		minute := u.GetMinute().AsTime()
		if minute.After(now.Add(maxAhead)) {
			minute = now
		}
		batch.Rows[n] = store.Row{
			Start:     minute.Truncate(time.Minute),
			Principal: store.Text(u.GetPrincipal()),
			Tenant:    store.Text(u.GetTenant()),
			Server:    store.Text(u.GetServer()),
			Method:    store.Text(u.GetMethod()),
			Name:      store.Text(u.GetName()),
			Calls:     int64(u.GetCalls()),
			Errors:    int64(u.GetErrors()),
			Micros:    int64(u.GetMicros()),
			Took:      took,
		}
	}
	return i.Store.AddUsage(ctx, batch)
}

// took reads how long calls took.
func took(u *metricsv1.Usage) ([]store.Bucket, error) {
	if len(u.GetBuckets()) != len(u.GetBucketCalls()) {
		return nil, errors.New("bucket_calls is not as long as buckets")
	}
	var seen [latency.Buckets]bool
	var all []store.Bucket
	left := u.GetCalls()
	for i, b := range u.GetBuckets() {
		n := u.GetBucketCalls()[i]
		if b >= latency.Buckets || seen[b] {
			return nil, fmt.Errorf("buckets has %d, which is too large or there twice", b)
		}
		if n > left {
			return nil, errors.New("bucket_calls has more calls than there were")
		}
		seen[b] = true
		left -= n
		all = append(all, store.Bucket{Bucket: int16(b), Calls: int64(n)})
	}
	return all, nil
}
