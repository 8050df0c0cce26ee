package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	"erlmcp.dev/gateway/admin"
	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/limit"
	"erlmcp.dev/gateway/owners"
	"erlmcp.dev/gateway/transport"
	"erlmcp.dev/gateway/transport/guard"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/health"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/telemetry"
	"erlmcp.dev/shared/upstream/pool"
	"erlmcp.dev/shared/usage"
)

// meter counts in Prometheus' series and in the usage that the metrics service keeps.
type meter struct {
	metrics  *telemetry.Metrics
	recorder *usage.Recorder
}

// Request implements engine.Meter.
func (m meter) Request(r engine.Measured) {
	m.metrics.Request(r.Transport, r.Method).Done(r.Duration, r.Failed, r.Trace)
	if r.Server != "" {
		m.metrics.Server(r.Server, r.Duration, r.Failed)
	}
	m.recorder.Record(r.Principal, r.Tenant, r.Server, r.Method, r.Name, r.Failed, r.Duration)
}

func (p *process) wireGateway(context.Context) error {
	servers := pool.New(pool.Config{Open: p.dialer.Shared})
	p.closers = append(p.closers, servers.Close)
	directory := owners.New(owners.Config{Any: p.conns[config.RoleSession], Dial: p.peers.Conn, Log: p.log})
	p.closers = append(p.closers, func() error { directory.Close(); return nil })
	recorder, err := usage.NewRecorder(usage.RecorderConfig{
		Client: metricsv1.NewMetricsServiceClient(p.conns[config.RoleMetrics]), Node: p.cfg.Node, Dir: p.spools(), Log: p.log,
	})
	if err != nil {
		return err
	}
	p.onClose(recorder)
	p.metrics.Events("usage", recorder)
	p.add("usage", recorder.Run)
	limiter, err := p.limiter()
	if err != nil {
		return err
	}
	e := engine.New(engine.Config{
		Catalog: p.follower, Servers: servers, Owners: directory, Sealer: p.keys,
		Meter: meter{p.metrics, recorder}, Limiter: limiter, Tracer: p.tracer, Draining: p.draining, Version: build.Version, Log: p.log,
		SlowTasks: p.cfg.Tasks.PromoteAfter > 0, InputWait: p.cfg.Limits.InputWait,
	})
	p.onCatalog = append(p.onCatalog, servers.CatalogChanged, e.CatalogChanged)

	places := p.places()
	g := &guard.Guard{Authenticator: p.authn, Hosts: p.cfg.Auth.Hosts, Origins: p.cfg.Auth.Origins, MaxBody: int64(p.cfg.Limits.MaxBody), Places: places}
	ways := p.newTransports(e, g)
	p.connections = ways.connections
	p.serve(admin.NewService(admin.Config{
		Node: p.cfg.Node, Version: build.Version, Started: p.started, Engine: e, Catalog: p.follower,
		Connections: p.connections, LogLevel: p.level,
		Draining: func() bool { return p.draining.Err() != nil },
	}))
	services := admin.Services{
		Gateway: p.local, Session: owners.Follow(p.prompt(config.RoleSession), p.peers.Conn), Registry: p.prompt(config.RoleRegistry), Metrics: p.prompt(config.RoleMetrics),
	}
	rest, err := admin.REST(services, g)
	if err != nil {
		return fmt.Errorf("making the REST API: %w", err)
	}
	p.services = append(p.services, admin.NewForwarding(p.elsewhere(services)))
	if p.streams != nil {
		p.serveStdio(e)
		return nil
	}
	api := http.NewServeMux()
	api.Handle("/api/v1/", rest)
	return p.serveTransports(ways, api, places)
}

// places bounds how many connections clients have.
func (p *process) places() *limit.Connections {
	var last atomic.Int64
	return &limit.Connections{
		Most: p.cfg.Limits.Connections, PerPrincipal: p.cfg.Limits.ConnectionsPerPrincipal,
		Refused: func() {
			if now := time.Now().Unix(); now >= last.Load()+10 && last.Swap(now) != now {
				p.log.Warn("connections are refused: as many are open as may be", "limit", p.cfg.Limits.Connections, "setting", "limits.connections")
			}
		},
	}
}

// limiter bounds how often a principal asks; nil where nothing does. Gateways count together in Redis.
func (p *process) limiter() (engine.Limiter, error) {
	limits := p.cfg.Limits
	if !limits.RateEnabled || p.streams != nil {
		return nil, nil
	}
	c := limit.Config{Rate: limits.RatePerSecond, Log: p.log}
	if p.cfg.Redis.Set {
		client, err := p.redisClient()
		if err != nil {
			return nil, err
		}
		c.Store = limit.Redis{Client: client}
	}
	l := limit.New(c)
	p.add("rate limits", l.Run)
	return l, nil
}

// operatorWait is how long a service may take to say that it has an operator's call.
const operatorWait = 2 * time.Second

// prompt is the channel for operators' calls to a role.
func (p *process) prompt(role Role) grpc.ClientConnInterface {
	if p.cfg.Runs(role) {
		return p.conns[role]
	}
	return rpc.Prompt(p.conns[role], operatorWait)
}

// elsewhere leaves out the services that this process has itself.
func (p *process) elsewhere(s admin.Services) admin.Services {
	if p.cfg.Runs(config.RoleSession) {
		s.Session = nil
	}
	if p.cfg.Runs(config.RoleRegistry) {
		s.Registry = nil
	}
	if p.cfg.Runs(config.RoleMetrics) {
		s.Metrics = nil
	}
	return s
}

// serveHTTP adds a port that serves HTTP. On stopping, open requests get the drain time.
func (p *process) serveHTTP(name string, port int, handler http.Handler) error {
	l, err := p.listen(name, port)
	if err != nil {
		return err
	}
	p.serveHTTPOn(name, limited(l, p.cfg.Limits.Connections), handler)
	return nil
}

// serveHTTPOn is serveHTTP with a port that is open.
func (p *process) serveHTTPOn(name string, l net.Listener, handler http.Handler) {
	p.add(name+" port", func(ctx context.Context) error { return p.runHTTP(ctx, name, l, handler) })
}

// catalogueTime is how long clients are made to wait for the first catalogue. Without it nobody is known, neither
// servers nor keys, and clients would be told that what they know is gone.
const catalogueTime = 30 * time.Second

// serveClientsOn is serveHTTPOn for a port of clients, who are served once there is a catalogue.
func (p *process) serveClientsOn(name string, l net.Listener, handler http.Handler) {
	p.add(name+" port", func(ctx context.Context) error {
		waiting, cancel := context.WithTimeout(ctx, catalogueTime)
		p.follower.Await(waiting)
		cancel()
		return p.runHTTP(ctx, name, l, p.parting(handler))
	})
}

// parting has clients leave once the process is told to stop: each connection ends behind its next answer. To close one
// that seems idle could cut off a request that is on its way.
func (p *process) parting(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.leaving.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// bodyPatience is how long a client may pause within a request's body.
const bodyPatience = 30 * time.Second

// runHTTP serves HTTP on a port until ctx ends.
func (p *process) runHTTP(ctx context.Context, name string, l net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           guard.Patient(handler, bodyPatience),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       transport.ConnContext,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), p.cfg.Drain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		p.log.Warn("requests were cut off: they did not end in the drain time", "port", name)
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serverStates counts the servers of the catalogue by their state.
func (p *process) serverStates() map[string]int {
	states := map[string]int{}
	for number, name := range registryv1.ServerState_name {
		if number != 0 {
			states[stateName(name)] = 0
		}
	}
	current := p.follower.Current()
	for _, name := range current.Servers() {
		states[stateName(current.Server(name).GetState().String())]++
	}
	return states
}

func stateName(s string) string { return strings.ToLower(strings.TrimPrefix(s, "SERVER_STATE_")) }

func limited(l net.Listener, most int) net.Listener {
	if most <= 0 {
		return l
	}
	return netutil.LimitListener(l, most)
}

// wireHealth adds the ports for probes and for Prometheus.
func (p *process) wireHealth(context.Context) error {
	before := len(p.parts)
	p.health = health.New(health.Config{Conditions: p.conditions, Interval: 500 * time.Millisecond, Log: p.log})
	p.add("health", p.health.Run)
	p.metrics.Watch(telemetry.Sources{
		Ready: p.health.Ready, Sessions: p.sessions,
		CacheBytes: func() uint64 { return uint64(p.follower.Current().Bytes() + p.sessionBytes()) },
		Servers:    p.serverStates,
		Cluster: func() telemetry.Cluster {
			living, expected, fresh := p.heartbeat.Nodes()
			return telemetry.Cluster{Nodes: living, Expected: max(p.cfg.Cluster.ExpectedNodes, expected), InSync: fresh && p.follower.Fresh() == nil}
		},
	})
	if p.streams != nil {
		return nil
	}
	handler := health.Handler(health.HandlerConfig{
		Checker: p.health, Started: p.started, Metrics: p.metrics.Handler(), Debug: p.debug(),
		Status: func() health.Status {
			n, _, _ := p.heartbeat.Nodes()
			return health.Status{
				Version: build.Version, Node: p.cfg.Node, Roles: p.roleNames(), PID: os.Getpid(), Sessions: p.sessions(),
				ClusterNodes: n, CatalogVersion: p.follower.Current().Version(), Ports: p.ports(), Programs: p.programStatus(), Settings: p.cfg.Inert(),
			}
		},
	})
	if err := p.serveHTTP("health", p.cfg.Ports.Health, handler); err != nil {
		return err
	}
	scrape := http.NewServeMux()
	scrape.Handle("/metrics", p.metrics.Handler())
	if err := p.serveHTTP("metrics", p.cfg.Ports.Metrics, scrape); err != nil {
		return err
	}
	p.stopLast(before) // while clients are still served, balancers must hear that this gateway is not ready
	return nil
}
