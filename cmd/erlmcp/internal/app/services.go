package app

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/services/metrics"
	metricsstore "erlmcp.dev/services/metrics/store"
	metricspostgres "erlmcp.dev/services/metrics/store/postgres"
	metricssqlite "erlmcp.dev/services/metrics/store/sqlite"
	"erlmcp.dev/services/registry"
	registrystore "erlmcp.dev/services/registry/store"
	registrypostgres "erlmcp.dev/services/registry/store/postgres"
	registrysqlite "erlmcp.dev/services/registry/store/sqlite"
	"erlmcp.dev/services/session"
	"erlmcp.dev/services/session/ends"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	sessionredis "erlmcp.dev/services/session/store/redis"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/health"
	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/pool"
	"erlmcp.dev/shared/usage"
)

// embeddedName is the one file, in the data directory, that a process keeps without Postgres.
const embeddedName = "erlmcp.db"

func (p *process) embedded() string { return filepath.Join(p.cfg.DataDir, embeddedName) }

func (p *process) wireMetrics(ctx context.Context) error {
	var held metricsstore.Store
	var err error
	if p.cfg.DB.Set {
		held, err = await(ctx, p.log, "metrics", func() (metricsstore.Store, error) { return metricspostgres.Open(ctx, string(p.cfg.DB.URL)) })
	} else {
		held, err = metricssqlite.Open(ctx, p.embedded())
	}
	if err != nil {
		return err
	}
	p.watchPool("metrics", held)
	p.onClose(held)
	service := metrics.New(metrics.Config{Store: held, Log: p.log, LeastNodes: p.cfg.Cluster.ExpectedNodes, Keep: metrics.Keep{
		Minutes: p.cfg.Keep.Minutes, Hours: p.cfg.Keep.Hours, Days: p.cfg.Keep.Days, Audit: p.cfg.Keep.Audit, Sessions: p.cfg.Keep.Sessions,
	}})
	p.serve(service)
	p.add("metrics service", service.Run)
	p.needs("metrics", p.cfg.DB.Set, func(context.Context) error { return service.Ready() })
	return nil
}

// watchPool shows how a store's connections to Postgres are doing; others have none.
func (p *process) watchPool(service string, held any) {
	if pool, ok := held.(interface{ Stat() *pgxpool.Stat }); ok {
		p.metrics.Postgres(service, pool.Stat)
	}
}

func (p *process) wireRegistry(ctx context.Context) error {
	var held registrystore.Store
	var err error
	if p.cfg.DB.Set {
		held, err = await(ctx, p.log, "registry", func() (registrystore.Store, error) {
			return registrypostgres.Open(ctx, string(p.cfg.DB.URL), registrypostgres.Options{})
		})
	} else {
		held, err = registrysqlite.Open(ctx, p.embedded(), registrysqlite.Options{})
	}
	if err != nil {
		return err
	}
	p.watchPool("registry", held)
	p.onClose(held)
	declared := p.cfg.Servers
	if p.cfg.Demo {
		demo, err := p.demo()
		if err != nil {
			return err
		}
		declared = append(declared, demo)
	}
	// It writes: the database of a stand-by region, which can be read, is waited for here.
	service, err := await(ctx, p.log, "registry", func() (*registry.Service, error) {
		return registry.New(ctx, registry.Config{
			Store: held, Discoverer: discoverer{p, sessionv1.NewUpstreamServiceClient(p.conns[config.RoleSession])}, Declared: declared, Node: p.cfg.Node, MessageSize: rpc.MaxMessage * 3 / 4, Log: p.log,
		})
	})
	if err != nil {
		return err
	}
	if key := p.cfg.Auth.AdminKey; key != "" {
		if err := service.GiveAdminKey(ctx, string(key)); err != nil {
			return err
		}
	} else if !p.cfg.AnonymousAdmin() && !p.cfg.Auth.JWT.Enabled() {
		if err := p.firstAdmin(ctx, service); err != nil {
			return err
		}
	}
	p.serve(service)
	p.add("registry service", service.Run)
	p.needs("registry", p.cfg.DB.Set, func(context.Context) error { return service.Ready() })
	return nil
}

// discoverer asks servers on behalf of the registry: those on the network itself, programs through an owner.
type discoverer struct {
	*process
	programs sessionv1.UpstreamServiceClient
}

// Describe implements discovery.Discoverer.
func (d discoverer) Describe(ctx context.Context, s *registryv1.Server) (*registryv1.Offer, error) {
	if s.GetStdio() == nil {
		return d.dialer.Describe(ctx, s)
	}
	response, err := d.programs.DescribeServer(ctx, &sessionv1.DescribeServerRequest{Server: s})
	return response.GetOffer(), err
}

// Watch implements discovery.Discoverer.
func (d discoverer) Watch(ctx context.Context, s *registryv1.Server, offer *registryv1.Offer, changed func()) error {
	err := d.dialer.Watch(ctx, s, offer, changed)
	if errors.Is(err, describe.ErrNoStream) {
		return nil
	}
	return err
}

// wireCatalog follows the registry, in every role: it brings the API keys too.
func (p *process) wireCatalog(context.Context) error {
	p.follower = catalog.NewFollower(catalog.FollowerConfig{
		Registry: registryv1.NewRegistryServiceClient(p.conns[config.RoleRegistry]),
		Changed: func(before, now *catalog.Catalog) {
			for _, f := range p.onCatalog {
				f(before, now)
			}
		},
		Keys: p.apiKeys.Apply,
		Log:  p.log,
	})
	p.add("catalogue", p.follower.Run)
	serves := p.cfg.Runs(config.RoleGateway) || p.cfg.Runs(config.RoleSession)
	p.conditions = append(p.conditions, p.patient(health.Condition{
		Name: "catalogue", Ready: serves, Critical: serves, Check: reason(p.follower.Ready),
	}))
	p.heartbeat = usage.NewHeartbeat(usage.HeartbeatConfig{
		Client: metricsv1.NewMetricsServiceClient(p.conns[config.RoleMetrics]),
		Node: &metricsv1.Node{
			Name: p.cfg.Node, Roles: p.roleNames(), Version: build.Version, Address: p.address, StartedAt: timestamppb.New(p.started),
		},
		Log: p.log,
	})
	p.add("heartbeat", p.heartbeat.Run)
	return nil
}

// redisClient is this process's client of the configured Redis.
func (p *process) redisClient() (redis.UniversalClient, error) {
	if p.redis != nil {
		return p.redis, nil
	}
	redisx.LogTo(p.log)
	r := p.cfg.Redis
	settings := redisx.Settings{
		Mode: redisx.Mode(r.Mode), Addresses: r.Addrs, Master: r.Master,
		Username: r.User, Password: string(r.Password), Database: r.DB,
	}
	if r.TLS {
		settings.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	client, err := redisx.New(settings)
	if err != nil {
		return nil, err
	}
	p.redis = client
	p.metrics.Redis(client)
	p.onClose(client)
	return client, nil
}

func (p *process) wireSession(context.Context) error {
	limits := store.Limits{
		IdleTTL: p.cfg.Limits.SessionIdle, PrincipalSessions: p.cfg.Limits.SessionsPerPrincipal, Sessions: 20 * p.cfg.Limits.Sessions,
		Tasks: p.cfg.Tasks.Total, PrincipalTasks: p.cfg.Tasks.PerPrincipal, TaskBytes: int(p.cfg.Tasks.MaxSize),
	}
	var held store.Store = memory.New(limits)
	if p.cfg.Redis.Set {
		client, err := p.redisClient()
		if err != nil {
			return err
		}
		held = sessionredis.New(sessionredis.Config{Client: client, Limits: limits})
		p.needs("redis", true, because(noRedis, held.Ready))
	}
	node := store.Node{Name: p.cfg.Node, Address: p.address}
	shared := pool.New(pool.Config{Open: p.dialer.Shared})
	p.closers = append(p.closers, shared.Close)
	p.programs = &stdio.Runner{
		MaxPrograms: p.cfg.Limits.Programs, MaxPerPrincipal: p.cfg.Limits.ProgramsPerPrincipal, Watchdog: watchdogCommand(), Log: p.log,
	}
	p.onClose(p.programs)
	opener := &ends.Opener{Dialer: p.dialer, Pool: shared, Programs: p.programs, ProgramIdle: p.cfg.Limits.ProgramIdle, Words: p.cfg.Env == config.Dev}
	historian, err := usage.NewHistorian(usage.HistorianConfig{
		Client: metricsv1.NewMetricsServiceClient(p.conns[config.RoleMetrics]), Node: p.cfg.Node, Dir: p.spools(), Log: p.log,
	})
	if err != nil {
		return err
	}
	p.onClose(historian)
	p.metrics.Events("sessions", historian)
	p.add("session history", historian.Run)
	sessions := owner.New(owner.Config{
		Node: node, Store: held, Shared: p.cfg.Redis.Set, Catalog: p.follower, Ready: p.follower.Ready, Opener: opener, ListChanged: p.refresher(),
		Drain: p.cfg.Drain / 2, IdleTime: p.cfg.Limits.SessionIdle, MaxAge: p.cfg.Limits.SessionAge, InputWait: p.cfg.Limits.InputWait, MaxSessions: p.cfg.Limits.Sessions, Log: p.log,
		Tracer: p.tracer, PromoteAfter: p.cfg.Tasks.PromoteAfter, KeepTasks: p.cfg.Tasks.Keep,
		Created: p.metrics.SessionCreated, Ended: p.metrics.SessionClosed, Tell: historian.Record,
	})
	p.onCatalog = append(p.onCatalog, shared.CatalogChanged, sessions.CatalogChanged)
	p.sessions, p.sessionBytes = sessions.Sessions, sessions.Bytes
	p.serve(session.New(session.Config{Owner: sessions, Store: held, Opener: opener, Node: node}))
	p.add("session owner", sessions.Run)
	return nil
}

// watchdogCommand is this very program, as the watchdog of its programs.
func watchdogCommand() []string {
	const same = "/proc/self/exe" // also when the file was replaced meanwhile
	if _, err := os.Stat(same); err == nil {
		return []string{same, "watchdog"}
	}
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	return []string{path, "watchdog"}
}

// WatchPrograms is what the watchdog's process does.
func WatchPrograms(in io.Reader, mark string) error { return stdio.Watch(in, mark) }

// programStatus is what /status says of programs.
func (p *process) programStatus() *health.Programs {
	if p.programs == nil {
		return nil
	}
	s := p.programs.Status()
	return &health.Programs{Running: s.Running, Most: s.Most, Resting: s.Resting}
}

// refresher tells the registry that a program said that its lists changed; often said is told once.
func (p *process) refresher() func(server string) {
	const quiet = time.Second
	registries := registryv1.NewRegistryServiceClient(p.conns[config.RoleRegistry])
	said := make(chan string, 256)
	p.add("list changes", func(ctx context.Context) error {
		pending := map[string]bool{}
		var due <-chan time.Time
		for {
			select {
			case name := <-said:
				pending[name] = true
				if due == nil {
					due = time.After(quiet)
				}
			case <-due:
				for name := range pending {
					if _, err := registries.RefreshServer(ctx, &registryv1.RefreshServerRequest{Name: name}); err != nil && ctx.Err() == nil {
						p.log.Info("a server's changed lists could not be read; the next probe will", "server", name, "error", err)
					}
				}
				clear(pending)
				due = nil
			case <-ctx.Done():
				return nil
			}
		}
	})
	return func(server string) {
		// The registry is subscribed itself to servers on the network.
		if p.follower.Current().Server(server).GetServer().GetStdio() == nil {
			return
		}
		select {
		case said <- server:
		default: // the next probe finds it
		}
	}
}
