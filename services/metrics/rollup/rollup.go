// Package rollup answers questions about usage, and keeps no more of it than is asked for. Counts are kept
// by the minute, hour and day, each for its own time. It must not know where counts come from. Start at [Rollup.Query].
package rollup

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/latency"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Rollup sums and expires counts. Safe for concurrent use.
type Rollup struct {
	Store store.Usage
	Clock func() time.Time
	// Keep is how long the counts of each step are kept.
	Keep [store.Steps]time.Duration
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
	var usage []*metricsv1.Usage
	err = r.Store.SumUsage(ctx, q, func(row store.Row) error {
		usage = append(usage, message(q, row))
		return nil
	})
	return usage, err
}

// message tells a row.
func message(q store.UsageQuery, row store.Row) *metricsv1.Usage {
	var took [latency.Buckets]uint64
	for _, b := range row.Took {
		if b.Bucket >= 0 && b.Bucket < latency.Buckets {
			took[b.Bucket] = uint64(b.Calls)
		}
	}
	u := &metricsv1.Usage{
		Principal: row.Principal,
		Tenant:    row.Tenant,
		Server:    row.Server,
		Method:    row.Method,
		Name:      row.Name,
		Calls:     uint64(row.Calls),
		Errors:    uint64(row.Errors),
		Micros:    uint64(row.Micros),
		P50Micros: latency.Quantile(&took, 0.5),
		P90Micros: latency.Quantile(&took, 0.9),
		P99Micros: latency.Quantile(&took, 0.99),
	}
	if q.By.Start {
		u.Minute = timestamppb.New(row.Start)
	}
	return u
}

// query fills in what was left out.
func (r *Rollup) query(req *metricsv1.QueryUsageRequest) (q store.UsageQuery, err error) {
	q = store.UsageQuery{
		Until:     r.Clock(),
		Principal: store.Text(req.GetPrincipal()),
		Server:    store.Text(req.GetServer()),
		Name:      store.Text(req.GetName()),
		Tenant:    store.Text(req.GetTenant()),
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
	if q.Step, err = r.step(req.GetStep(), q.Since); err != nil {
		return q, err
	}
	q.Since = q.Step.Start(q.Since) // the step that holds it counts whole
	switch o := req.GetOrder(); o {
	case metricsv1.Order_ORDER_UNSPECIFIED, metricsv1.Order_ORDER_CALLS:
		q.Order = store.ByCalls
	case metricsv1.Order_ORDER_ERRORS:
		q.Order = store.ByErrors
	case metricsv1.Order_ORDER_LATENCY:
		q.Order = store.ByLatency
	default:
		return q, status.Errorf(codes.InvalidArgument, "usage cannot be ordered by %v: use calls, errors or latency", o)
	}
	for _, d := range req.GetBy() {
		switch d {
		case metricsv1.Dimension_DIMENSION_MINUTE:
			q.By.Start = true
		case metricsv1.Dimension_DIMENSION_PRINCIPAL:
			q.By.Principal = true
		case metricsv1.Dimension_DIMENSION_SERVER:
			q.By.Server = true
		case metricsv1.Dimension_DIMENSION_METHOD:
			q.By.Method = true
		case metricsv1.Dimension_DIMENSION_NAME:
			q.By.Name = true
		case metricsv1.Dimension_DIMENSION_TENANT:
			q.By.Tenant = true
		default:
			return q, status.Errorf(codes.InvalidArgument, "usage cannot be summed by %v: use minute, tenant, principal, server, method or name", d)
		}
	}
	return q, nil
}

// step is the one asked for; the finest that reaches back to since where none is.
func (r *Rollup) step(asked metricsv1.Step, since time.Time) (store.Step, error) {
	switch asked {
	case metricsv1.Step_STEP_UNSPECIFIED:
		step := store.Minute
		for step < store.Day && since.Before(r.Clock().Add(-r.Keep[step])) {
			step++
		}
		return step, nil
	case metricsv1.Step_STEP_MINUTE:
		return store.Minute, nil
	case metricsv1.Step_STEP_HOUR:
		return store.Hour, nil
	case metricsv1.Step_STEP_DAY:
		return store.Day, nil
	}
	return 0, status.Errorf(codes.InvalidArgument, "usage is not kept by %v: use minute, hour or day", asked)
}

// Expire forgets what is older than is kept.
func (r *Rollup) Expire(ctx context.Context) error {
	now := r.Clock()
	_, err := r.Store.DropBatches(ctx, now.Add(-r.KeepBatches))
	for step, keep := range r.Keep {
		err = errors.Join(err, r.Store.DropUsage(ctx, store.Step(step), now.Add(-keep)))
	}
	return err
}
