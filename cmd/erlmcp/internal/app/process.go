package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/health"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/otlp"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/seal"
	"erlmcp.dev/shared/telemetry"
	"erlmcp.dev/shared/trace"
	"erlmcp.dev/shared/upstream/dial"
	"erlmcp.dev/shared/upstream/mcphttp"
	"erlmcp.dev/shared/usage"
)

// process is what the roles of one process share.
type process struct {
	cfg      config.Config
	roles    []Role
	started  time.Time
	level    *slog.LevelVar
	tracer   *trace.Tracer // nil while nothing is traced
	log      *slog.Logger
	keys     *seal.Keys
	metrics  *telemetry.Metrics
	health   *health.Checker
	leaving  context.Context // ends when the process is told to stop
	draining context.Context // ends when it takes no more clients
	leave    context.CancelFunc
	drain    context.CancelFunc

	local    *rpc.Local
	services []interface{ Register(grpc.ServiceRegistrar) } // of this process, for the network
	client   rpc.ClientConfig
	tls      *tls.Config // of the gRPC server; nil for plain text
	grpc     net.Listener
	address  string // where others reach this process's gRPC
	peers    *rpc.Peers
	conns    map[Role]grpc.ClientConnInterface

	apiKeys   *access.KeySet
	authn     access.Authenticator
	follower  *catalog.Follower
	onCatalog []func(before, now *catalog.Catalog)
	dialer    *dial.Dialer
	redis     redis.UniversalClient // nil until needed
	heartbeat *usage.Heartbeat
	auditor   *usage.Auditor

	conditions []health.Condition
	listeners  []listener
	parts      []part
	closers    []func() error

	programs *stdio.Runner // nil without the role session
	sessions func() int
	// sessionBytes is about how much memory they take.
	sessionBytes func() int
	connections  func() map[string]int
	streams      *streams // instead of ports, where they are not nil
	firstKey     string   // an admin key made just now, to be shown once
}

// listener is a port of this process.
type listener struct {
	name string
	net.Listener
}

// newProcess makes a process that logs to out.
func newProcess(cfg config.Config, roles []Role, out io.Writer) (*process, error) {
	telemetry.LimitMemory()
	level := &slog.LevelVar{}
	parsed, err := telemetry.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, err
	}
	level.Set(parsed)
	p := &process{
		cfg: cfg, roles: roles, started: time.Now(), level: level,
		log:          telemetry.NewLog(telemetry.LogConfig{Output: out, Format: cfg.Log.Format, Level: level}).With("node", cfg.Node),
		metrics:      telemetry.NewMetrics(),
		apiKeys:      &access.KeySet{},
		conns:        map[Role]grpc.ClientConnInterface{},
		sessions:     func() int { return 0 },
		sessionBytes: func() int { return 0 },
		connections:  func() map[string]int { return nil },
	}
	for _, w := range cfg.Warnings {
		p.log.Warn("a setting may not do what was meant", "warning", w)
	}
	if cfg.OTel.Enabled {
		if err := p.observe(cfg.OTel); err != nil {
			return nil, err
		}
	}
	p.leaving, p.leave = context.WithCancel(context.Background())
	p.draining, p.drain = context.WithCancel(context.Background())
	if p.keys, err = p.secret(); err != nil {
		return nil, err
	}
	var info jsonrpc.Object
	info.Set("name", jsonrpc.String("erlmcp"))
	info.Set("version", jsonrpc.String(build.Version))
	p.dialer = &dial.Dialer{Transport: mcphttp.NewTransport(), Info: json.RawMessage(info.JSON()), Log: p.log}
	p.authn = p.authenticator()
	return p, nil
}

// observe sends traces and metrics to a collector.
func (p *process) observe(o config.OTel) (err error) {
	ctx := context.Background()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.log.Warn("traces or metrics are not sent", "error", err) }))
	to := otlp.Collector{Endpoint: o.Endpoint, HTTP: o.Protocol == "http/protobuf", Service: o.Service, Version: build.Version, Node: p.cfg.Node}
	if o.Traces != "none" {
		if p.tracer, err = trace.New(ctx, trace.Config{Collector: to, Sampling: o.Sampling}); err != nil {
			return err
		}
		p.onClose(p.tracer)
	}
	if o.Metrics == "none" {
		return nil
	}
	export, err := p.metrics.Export(ctx, to)
	if err != nil {
		return err
	}
	p.onClose(export)
	return nil
}

// secret takes the configured cluster secrets; a process that is its own cluster makes one and keeps it.
func (p *process) secret() (*seal.Keys, error) {
	var secrets [][]byte
	for _, s := range p.cfg.Cluster.Secrets {
		secrets = append(secrets, []byte(s))
	}
	if len(secrets) > 0 {
		return seal.New(secrets...)
	}
	path := filepath.Join(p.cfg.DataDir, "cluster-secret")
	held, err := os.ReadFile(path)
	if err == nil {
		return seal.New([]byte(strings.TrimSpace(string(held))))
	}
	made := seal.Generate()
	if err := os.MkdirAll(p.cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w; set another with ERLMCP_DATA_DIR", err)
	}
	if err := os.WriteFile(path, made, 0o600); err != nil {
		return nil, fmt.Errorf("keeping the cluster secret: %w", err)
	}
	return seal.New(made)
}

// authenticator is who may come in: API keys always, tokens where an issuer is configured, anyone where that is
// allowed: as an administrator on loopback, elsewhere without a role.
func (p *process) authenticator() access.Authenticator {
	chain := access.Chain{Keys: p.apiKeys}
	if jwt := p.cfg.Auth.JWT; jwt.Enabled() {
		chain.Tokens = access.NewJWT(access.JWTConfig{
			Issuer: jwt.Issuer, Audience: jwt.Audience, JWKSURL: jwt.JWKSURL, Secret: []byte(string(jwt.Secret)), TenantClaim: jwt.TenantClaim,
		})
	}
	if p.cfg.Auth.Anonymous {
		anyone := access.Anonymous{}
		if p.cfg.AnonymousAdmin() {
			anyone.Role = registryv1.Role_ROLE_ADMIN
		}
		chain.Otherwise = anyone
	}
	return chain
}

// wire makes everything that will run.
func (p *process) wire(ctx context.Context) error {
	if err := p.wireRPC(); err != nil {
		return err
	}
	steps := []struct {
		role Role
		wire func(context.Context) error
	}{
		{config.RoleMetrics, p.wireMetrics},
		{config.RoleRegistry, p.wireRegistry},
		{"", p.wireCatalog},
		{config.RoleSession, p.wireSession},
		{config.RoleGateway, p.wireGateway},
		{"", p.wireOthers},
		{"", p.wireHealth},
		{"", p.wireServing},
	}
	for _, s := range steps {
		if s.role != "" && !p.cfg.Runs(s.role) {
			continue
		}
		if err := s.wire(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stopLast has the parts that were added since there were n stop behind all others.
func (p *process) stopLast(n int) {
	p.parts = slices.Concat(p.parts[n:], p.parts[:n])
}

func (p *process) add(name string, run func(context.Context) error) {
	p.parts = append(p.parts, part{name, run})
}

// listen opens a port; 0 picks a free one.
func (p *process) listen(name string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(p.cfg.Listen, fmt.Sprint(port)))
	if err != nil {
		return nil, fmt.Errorf("opening the %s port: %w; choose another or 0 for any", name, err)
	}
	p.listeners = append(p.listeners, listener{name, l})
	return l, nil
}

// ports are the real ones, by what listens there.
func (p *process) ports() map[string]int {
	ports := map[string]int{}
	for _, l := range p.listeners {
		ports[l.name] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func (p *process) close() {
	for _, l := range p.listeners {
		_ = l.Close() // most are closed by who served on them
	}
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			p.log.Warn("closing failed", "error", err)
		}
	}
}

func (p *process) onClose(c io.Closer) { p.closers = append(p.closers, c.Close) }

func (p *process) roleNames() []string {
	names := make([]string, len(p.roles))
	for i, r := range p.roles {
		names[i] = string(r)
	}
	return names
}
