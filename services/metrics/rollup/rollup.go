// Package rollup answers questions about usage, and keeps no more of it than is asked for. Today counts are kept by
// the minute; coarser roll-ups belong here. It must not know where counts come from. Start at [Rollup.Query].
package rollup

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Rollup sums and expires counts. Safe for concurrent use.
type Rollup struct {
	Store store.Usage
	Clock func() time.Time
	// Keep is how long a minute's counts are kept.
	Keep time.Duration
	// KeepBatches is how long a batch is known to have been counted: longer than any node goes on sending it.
	KeepBatches time.Duration
}

// Limits of rows in an answer.
const (
	defaultLimit = 1000
	maxLimit     = 10000
)

// Query sums usage as asked.
func (r *Rollup) Query(ctx context.Context, req *metricsv1.QueryUsageRequest) ([]*metricsv1.Usage, error) {
	q, err := r.query(req)
	if err != nil {
		return nil, err
	}
	rows, err := r.Store.SumUsage(ctx, q)
	if err != nil {
		return nil, err
	}
	usage := make([]*metricsv1.Usage, len(rows))
	for i, row := range rows {
		usage[i] = &metricsv1.Usage{
			Principal: row.Principal,
			Server:    row.Server,
			Method:    row.Method,
			Name:      row.Name,
			Calls:     uint64(row.Calls),
			Errors:    uint64(row.Errors),
			Micros:    uint64(row.Micros),
		}
		if q.By.Minute {
			usage[i].Minute = timestamppb.New(row.Minute)
		}
	}
	return usage, nil
}

// query fills in what was left out.
func (r *Rollup) query(req *metricsv1.QueryUsageRequest) (q store.UsageQuery, err error) {
	q = store.UsageQuery{
		Until:     r.Clock(),
		Principal: store.Text(req.GetPrincipal()),
		Server:    store.Text(req.GetServer()),
		Limit:     defaultLimit,
	}
	if t := req.GetUntil(); t != nil {
		if !t.IsValid() {
			return q, status.Error(codes.InvalidArgument, "until is out of range")
		}
		q.Until = t.AsTime()
	}
	q.Since = q.Until.Add(-time.Hour)
	if t := req.GetSince(); t != nil {
		if !t.IsValid() {
			return q, status.Error(codes.InvalidArgument, "since is out of range")
		}
		q.Since = t.AsTime()
	}
	if n := req.GetLimit(); n > 0 {
		q.Limit = int(min(n, maxLimit))
	}
	for _, d := range req.GetBy() {
		switch d {
		case metricsv1.Dimension_DIMENSION_MINUTE:
			q.By.Minute = true
		case metricsv1.Dimension_DIMENSION_PRINCIPAL:
			q.By.Principal = true
		case metricsv1.Dimension_DIMENSION_SERVER:
			q.By.Server = true
		case metricsv1.Dimension_DIMENSION_METHOD:
			q.By.Method = true
		case metricsv1.Dimension_DIMENSION_NAME:
			q.By.Name = true
		default:
			return q, status.Errorf(codes.InvalidArgument, "usage cannot be summed by %v: use minute, principal, server, method or name", d)
		}
	}
	return q, nil
}

// Expire forgets what is older than is kept.
func (r *Rollup) Expire(ctx context.Context) error {
	now := r.Clock()
	_, usage := r.Store.DropUsage(ctx, now.Add(-r.Keep))
	_, batches := r.Store.DropBatches(ctx, now.Add(-r.KeepBatches))
	return errors.Join(usage, batches)
}
