package health

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Config is what a Checker needs.
type Config struct {
	// Conditions to watch. Names are unique.
	Conditions []Condition
	// Services are the full names of the gRPC services that grpc.health.v1 answers for, beside "" for the whole.
	Services []string
	// Interval between two checks of a condition; 2 s when 0.
	Interval time.Duration
	// Timeout of one check; 1 s when 0.
	Timeout time.Duration
	// Log hears of every change; none when nil.
	Log *slog.Logger
}

// Checker watches conditions. Until the first round ends none of them holds. Safe for concurrent use.
type Checker struct {
	conditions []*watched
	services   []string
	interval   time.Duration
	timeout    time.Duration
	log        *slog.Logger

	draining atomic.Bool
	grpc     *grpchealth.Server
	publish  sync.Mutex // one at a time, so that an old answer never overwrites a newer
}

// New makes a Checker, not yet watching.
func New(c Config) *Checker {
	if c.Interval <= 0 {
		c.Interval = 2 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Checker{
		services: append([]string{""}, c.Services...),
		interval: c.Interval,
		timeout:  c.Timeout,
		log:      c.Log,
		grpc:     grpchealth.NewServer(),
	}
	for _, cond := range c.Conditions {
		h.conditions = append(h.conditions, &watched{Condition: cond, made: time.Now()})
	}
	h.tell()
	return h
}

// Run checks until ctx ends, and waits for its checks. From then on the process is not ready.
func (h *Checker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range h.conditions {
		wg.Go(func() { h.watch(ctx, w) })
	}
	wg.Go(func() { h.every(ctx, h.tell) }) // so that a check that hangs is told of too
	wg.Wait()
	h.Drain()
	return nil
}

// Drain makes the process not ready, for good: it stops soon. Health stays as it is.
func (h *Checker) Drain() {
	if !h.draining.Swap(true) {
		h.log.Info("draining: no longer ready")
	}
	h.tell()
}

// Ready reports whether every condition for it holds and the process is not draining.
func (h *Checker) Ready() bool { return h.readiness().Ready }

// RegisterGRPC adds grpc.health.v1 to a server; its services are SERVING while the process is ready.
func (h *Checker) RegisterGRPC(r grpc.ServiceRegistrar) { healthpb.RegisterHealthServer(r, h.grpc) }

func (h *Checker) watch(ctx context.Context, w *watched) {
	h.every(ctx, func() {
		h.check(ctx, w)
		h.tell()
	})
}

// every calls do at once and then at each interval.
func (h *Checker) every(ctx context.Context, do func()) {
	tick := time.NewTicker(h.interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (h *Checker) check(ctx context.Context, w *watched) {
	bounded, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	start := time.Now()
	err := w.Check(bounded)
	if ctx.Err() != nil {
		return // the failure is ours
	}
	now := outcome{at: time.Now(), took: time.Since(start)}
	if err != nil {
		now.problem = public(err)
	}
	before := w.set(now)
	switch {
	case now.problem != "" && before.at.IsZero(): // what it needs may be starting too; the next check warns
		h.log.Info("waiting for a condition", "condition", w.Name, "error", err)
	case now.problem != "" && (now.problem != before.problem || before.first):
		h.log.Warn("a condition does not hold", "condition", w.Name, "error", err)
	case now.problem == "" && before.problem != "":
		h.log.Info("a condition holds again", "condition", w.Name)
	}
}

// tell passes readiness on to grpc.health.v1, which tells only changes to its watchers.
func (h *Checker) tell() {
	h.publish.Lock()
	defer h.publish.Unlock()
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if h.Ready() {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, s := range h.services {
		h.grpc.SetServingStatus(s, status)
	}
}
