// Package metrics is the metrics service: usage, the audit trail, the history of sessions and the list of living
// nodes, over a store. It must
// not know who calls it or what was called. Its parts are ingest (counts come in), rollup (counts are asked for, and
// expire), audit, sessions, membership and live (what comes is passed on); this package joins them, answers gRPC and ages the store. Start at [New].
package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"erlmcp.dev/services/metrics/audit"
	"erlmcp.dev/services/metrics/ingest"
	"erlmcp.dev/services/metrics/live"
	"erlmcp.dev/services/metrics/membership"
	"erlmcp.dev/services/metrics/rollup"
	"erlmcp.dev/services/metrics/sessions"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/health"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Config is what the service needs.
type Config struct {
	// Store keeps everything; the caller closes it, after Run has ended.
	Store store.Store
	// Log hears of failures of the store; none when nil.
	Log *slog.Logger
	// Clock tells the time; time.Now when nil.
	Clock func() time.Time
	// Keep is how long things are kept.
	Keep Keep
	// KeepBatches is how long a batch of usage is recognised when it comes again; 8 days when 0. A node that did not
	// hear for longer that its batch arrived would have it counted twice.
	KeepBatches time.Duration
	// LeastNodes is how many nodes there should be at least; 0 for as many as are known.
	LeastNodes int
}

// Keep is how long things are kept.
type Keep struct {
	// Minutes, Hours and Days of usage; 7, 90 and 730 days when 0.
	Minutes, Hours, Days time.Duration
	// Audit events; for ever when 0.
	Audit time.Duration
	// Sessions' events; 90 days when 0.
	Sessions time.Duration
}

func (k Keep) withDefaults() Keep {
	const day = 24 * time.Hour
	for _, d := range []struct {
		at   *time.Duration
		days time.Duration
	}{{&k.Minutes, 7}, {&k.Hours, 90}, {&k.Days, 730}, {&k.Sessions, 90}} {
		if *d.at <= 0 {
			*d.at = d.days * day
		}
	}
	return k
}

// Service implements erlmcp.metrics.v1.MetricsService.
type Service struct {
	metricsv1.UnimplementedMetricsServiceServer

	store      store.Store
	log        *slog.Logger
	ingest     *ingest.Ingest
	rollup     *rollup.Rollup
	audit      *audit.Trail
	sessions   *sessions.History
	membership *membership.Members
	live       *live.Hub
	exports    chan struct{} // a place for each export that is under way
}

// New makes the service. It answers at once; Run ages what it keeps.
func New(c Config) *Service {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Keep = c.Keep.withDefaults()
	if c.KeepBatches <= 0 {
		c.KeepBatches = 8 * 24 * time.Hour
	}
	wire, _ := c.Store.(live.Wire) // an embedded store is one replica's alone
	return &Service{
		store:   c.Store,
		live:    live.New(wire, c.Log),
		log:     c.Log,
		exports: make(chan struct{}, maxExports),
		ingest:  &ingest.Ingest{Store: c.Store, Clock: c.Clock},
		rollup: &rollup.Rollup{
			Store: c.Store, Clock: c.Clock, KeepBatches: c.KeepBatches,
			Keep: [store.Steps]time.Duration{c.Keep.Minutes, c.Keep.Hours, c.Keep.Days},
		},
		audit:      &audit.Trail{Store: c.Store, Clock: c.Clock, Keep: c.Keep.Audit},
		sessions:   &sessions.History{Store: c.Store, Clock: c.Clock, Keep: c.Keep.Sessions},
		membership: &membership.Members{Store: c.Store, Clock: c.Clock, Least: c.LeastNodes},
	}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { metricsv1.RegisterMetricsServiceServer(r, s) }

// Expiry runs each minute, so that each time little is to be dropped, and within a bound.
const (
	expiryInterval = time.Minute
	expiryTimeout  = 30 * time.Second
)

// Run drops what is too old, and hears what other replicas take, until ctx ends; then it ends who watches.
func (s *Service) Run(ctx context.Context) error {
	hearing := make(chan struct{})
	go func() {
		defer close(hearing)
		s.live.Run(ctx)
	}()
	defer func() { <-hearing }()
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		s.expire(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Service) expire(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, expiryTimeout)
	defer cancel()
	for what, expire := range map[string]func(context.Context) error{"usage": s.rollup.Expire, "audit": s.audit.Expire, "sessions": s.sessions.Expire, "nodes": s.membership.Expire} {
		if err := expire(bounded); err != nil && ctx.Err() == nil {
			s.log.Warn("could not drop what is too old; tried again in a minute", "what", what, "error", err)
		}
	}
}

// Ready returns an error where the store does not answer within a second.
func (s *Service) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", health.Reason("the metrics database does not answer"), err)
	}
	return nil
}
