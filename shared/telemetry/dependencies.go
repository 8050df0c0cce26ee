package telemetry

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
)

// Redis adds series about a client's commands and connections.
func (m *Metrics) Redis(client redis.UniversalClient) {
	h := redisHook{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "erlmcp_redis_command_duration_seconds", Help: "Time of a command or pipeline to Redis and back.", Buckets: buckets,
		}),
		errors: counter("erlmcp_redis_errors_total", "Commands, pipelines and connections to Redis that failed; a missing key is no failure."),
	}
	m.registry.MustRegister(h.duration, h.errors, redisPool{
		client: client,
		open:   desc("erlmcp_redis_connections", "Open connections to Redis."),
		idle:   desc("erlmcp_redis_connections_idle", "Open connections to Redis that nothing waits for."),
		waits:  desc("erlmcp_redis_pool_timeouts_total", "Commands that found no free connection to Redis in time."),
	})
	client.AddHook(h)
}

type redisHook struct {
	duration prometheus.Histogram
	errors   prometheus.Counter
}

// DialHook implements redis.Hook.
func (h redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		h.count(err)
		return conn, err
	}
}

// ProcessHook implements redis.Hook.
func (h redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.duration.Observe(time.Since(began).Seconds())
		h.count(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		h.duration.Observe(time.Since(began).Seconds())
		h.count(err)
		return err
	}
}

func (h redisHook) count(err error) {
	if err != nil && !errors.Is(err, redis.Nil) && !errors.Is(err, context.Canceled) {
		h.errors.Inc()
	}
}

type redisPool struct {
	client            redis.UniversalClient
	open, idle, waits *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (p redisPool) Describe(out chan<- *prometheus.Desc) {
	out <- p.open
	out <- p.idle
	out <- p.waits
}

// Collect implements prometheus.Collector.
func (p redisPool) Collect(out chan<- prometheus.Metric) {
	s := p.client.PoolStats()
	out <- prometheus.MustNewConstMetric(p.open, prometheus.GaugeValue, float64(s.TotalConns))
	out <- prometheus.MustNewConstMetric(p.idle, prometheus.GaugeValue, float64(s.IdleConns))
	out <- prometheus.MustNewConstMetric(p.waits, prometheus.CounterValue, float64(s.Timeouts))
}

// Postgres adds series about the pool of connections that a service has.
func (m *Metrics) Postgres(service string, stat func() *pgxpool.Stat) {
	about := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, nil, prometheus.Labels{"service": service})
	}
	m.registry.MustRegister(postgresPool{
		stat:     stat,
		open:     about("erlmcp_postgres_connections", "Open connections to Postgres."),
		busy:     about("erlmcp_postgres_connections_busy", "Connections to Postgres that are in use."),
		most:     about("erlmcp_postgres_connections_max", "Connections to Postgres that there may be."),
		acquired: about("erlmcp_postgres_acquires_total", "Times that a connection to Postgres was taken from the pool."),
		waited:   about("erlmcp_postgres_acquire_seconds_total", "Time spent on waiting for a connection to Postgres, in seconds."),
	})
}

type postgresPool struct {
	stat                               func() *pgxpool.Stat
	open, busy, most, acquired, waited *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (p postgresPool) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.open, p.busy, p.most, p.acquired, p.waited} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (p postgresPool) Collect(out chan<- prometheus.Metric) {
	s := p.stat()
	out <- prometheus.MustNewConstMetric(p.open, prometheus.GaugeValue, float64(s.TotalConns()))
	out <- prometheus.MustNewConstMetric(p.busy, prometheus.GaugeValue, float64(s.AcquiredConns()))
	out <- prometheus.MustNewConstMetric(p.most, prometheus.GaugeValue, float64(s.MaxConns()))
	out <- prometheus.MustNewConstMetric(p.acquired, prometheus.CounterValue, float64(s.AcquireCount()))
	out <- prometheus.MustNewConstMetric(p.waited, prometheus.CounterValue, s.AcquireDuration().Seconds())
}

// GRPC adds series about the calls that this process serves, and returns who counts them: by the methods that are
// registered, so that no caller invents one.
func (m *Metrics) GRPC() func(method string, code codes.Code, d time.Duration) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "erlmcp_grpc_calls_total", Help: "Calls of this process's gRPC services that ended, by their status.",
	}, []string{"method", "code"})
	seconds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "erlmcp_grpc_call_seconds_total", Help: "Time that they took, in seconds; streams count with their whole length.",
	}, []string{"method"})
	m.registry.MustRegister(total, seconds)
	return func(method string, code codes.Code, d time.Duration) {
		total.WithLabelValues(method, code.String()).Inc()
		seconds.WithLabelValues(method).Add(d.Seconds())
	}
}
