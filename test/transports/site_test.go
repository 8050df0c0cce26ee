package transports

import (
	"context"
	"crypto/rand"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"erlmcp.dev/examples/fixtures"
	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/owners"
	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/sse"
	"erlmcp.dev/gateway/transport/streamhttp"
	"erlmcp.dev/gateway/transport/tcp"
	"erlmcp.dev/gateway/transport/websocket"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session"
	"erlmcp.dev/services/session/ends"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/seal"
	"erlmcp.dev/shared/upstream/dial"
	"erlmcp.dev/shared/upstream/mcphttp"
	"erlmcp.dev/shared/upstream/pool"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // cells mostly wait
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// site is a server with the fixtures, an owner, and gateways in front.
type site struct {
	idle     func() // closes idle connections to the server
	upstream *registryv1.Server
	dialer   *dial.Dialer
	shelf    *shelf
	owner    *owner.Owner
	local    *rpc.Local
	keys     *seal.Keys
	log      *slog.Logger
	gateways []*gateway
}

// gateway is one gateway with all its transports.
type gateway struct {
	engine *engine.Engine
	drain  context.CancelFunc
	stdio  *channel.Server
	ws     *channel.Server
	tcp    *channel.Server
	// open is how many HTTP requests and event streams are being served.
	open func() int
	// api is host:port of everything.
	api string
}

// options of a site.
type options struct {
	era          fixtures.Era
	gateways     int
	writeTimeout time.Duration
	maxRequests  int
	maxBody      int64
	authn        guard.Authenticator
	keepAlive    time.Duration
	recheck      time.Duration // how often an open stream's credential is looked at; a minute when 0
	resume       time.Duration // how long an SSE client may take to come back; 30 s when 0
	idle         time.Duration // a session's longest time without use; an hour when 0
}

// shelf holds the catalogue, and stands in for the registry.
type shelf struct {
	mu      sync.Mutex
	now     *catalog.Catalog
	changed []func(before, now *catalog.Catalog)
}

func (s *shelf) Current() *catalog.Catalog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *shelf) apply(change *registryv1.WatchCatalogResponse) {
	s.mu.Lock()
	before := s.now
	s.now = before.Apply(change)
	now, changed := s.now, s.changed
	s.mu.Unlock()
	for _, f := range changed {
		f(before, now)
	}
}

type noMeter struct{}

func (noMeter) Request(engine.Measured) {}

func newSite(t testing.TB, o options) *site {
	t.Helper()
	if o.gateways == 0 {
		o.gateways = 1
	}
	if o.era == "" {
		o.era = fixtures.Dual
	}
	if o.authn == nil {
		o.authn = access.Anonymous{}
	}
	keys, err := seal.New([]byte(rand.Text() + rand.Text()))
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() && os.Getenv("TRANSPORTS_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	upstream := httptest.NewServer(fixtures.New(fixtures.Options{Era: o.era}).Handler())
	t.Cleanup(upstream.Close)
	transport := mcphttp.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	s := &site{
		idle:     transport.CloseIdleConnections,
		upstream: &registryv1.Server{Name: "fixtures", Prefix: new(string), Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: upstream.URL}}},
		dialer:   &dial.Dialer{Transport: transport, Log: log},
		shelf:    &shelf{now: catalog.New()},
		keys:     keys, log: log,
	}
	s.refresh(t)
	s.local, err = rpc.NewLocal(rpc.LocalConfig{Node: "site", Log: log})
	must(t, err)
	node := store.Node{Name: "site", Address: "local"}
	held := memory.New(store.Limits{IdleTTL: o.idle})
	shared := pool.New(pool.Config{Open: s.dialer.Shared})
	t.Cleanup(func() { _ = shared.Close() })
	opener := &ends.Opener{Dialer: s.dialer, Pool: shared, Programs: &stdio.Runner{}}
	s.owner = owner.New(owner.Config{
		Node: node, Store: held, Catalog: s.shelf, Opener: opener, IdleTime: o.idle, PromoteAfter: 50 * time.Millisecond, Log: log,
	})
	session.New(session.Config{Owner: s.owner, Store: held, Opener: opener, Node: node}).Register(s.local)
	s.shelf.changed = append(s.shelf.changed, s.owner.CatalogChanged)
	run(t, s.owner.Run)
	for range o.gateways {
		s.gateways = append(s.gateways, s.newGateway(t, o))
	}
	return s
}

// refresh finds out what the server offers now, as the registry would.
func (s *site) refresh(t testing.TB) {
	t.Helper()
	offer, err := s.dialer.Describe(t.Context(), s.upstream)
	must(t, err)
	s.shelf.apply(&registryv1.WatchCatalogResponse{
		Version: s.shelf.Current().Version() + 1,
		Servers: []*registryv1.CatalogServer{{Server: s.upstream, Offer: offer, State: registryv1.ServerState_SERVER_STATE_READY}},
	})
}

func (s *site) newGateway(t testing.TB, o options) *gateway {
	t.Helper()
	servers := pool.New(pool.Config{Open: s.dialer.Shared})
	t.Cleanup(func() { _ = servers.Close() })
	directory := owners.New(owners.Config{Any: s.local, Dial: func(string) (grpc.ClientConnInterface, error) { return s.local, nil }, Log: s.log})
	t.Cleanup(directory.Close)
	draining, drain := context.WithCancel(context.Background())
	t.Cleanup(drain)
	g := &gateway{drain: drain}
	g.engine = engine.New(engine.Config{
		Catalog: s.shelf, Servers: servers, Owners: directory, Sealer: s.keys, Meter: noMeter{}, Draining: draining, Version: "test", Log: s.log, SlowTasks: true,
	})
	s.shelf.mu.Lock()
	s.shelf.changed = append(s.shelf.changed, servers.CatalogChanged, g.engine.CatalogChanged)
	s.shelf.mu.Unlock()
	channels := func() *channel.Server {
		c := &channel.Server{Engine: g.engine, Draining: draining, WriteTimeout: o.writeTimeout, MaxRequests: o.maxRequests, Log: s.log}
		t.Cleanup(func() {
			drain()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			c.Shutdown(ctx)
		})
		return c
	}
	g.stdio, g.ws, g.tcp = channels(), channels(), channels()
	watch := &guard.Guard{Authenticator: o.authn, MaxBody: o.maxBody, Recheck: o.recheck}
	events := &sse.Handler{Engine: g.engine, Guard: watch, Draining: draining, KeepAlive: o.keepAlive, WriteTimeout: o.writeTimeout, ResumeTime: o.resume, Log: s.log}
	mux := http.NewServeMux()
	plain := &streamhttp.Handler{Engine: g.engine, Guard: watch, KeepAlive: o.keepAlive, WriteTimeout: o.writeTimeout, Draining: draining}
	g.open = func() int { return plain.Connections() + events.Connections() }
	sockets := &websocket.Handler{Server: g.ws, Guard: watch, Ping: o.keepAlive}
	for _, path := range []string{"", "/{view}"} {
		mux.Handle("/mcp"+path, plain)
		mux.Handle("/ws"+path, sockets)
		mux.HandleFunc("GET /sse"+path, events.Stream)
		mux.HandleFunc("POST /messages"+path, events.Message)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g.api = l.Addr().String()
	server := &http.Server{Handler: guard.Patient(mux, patience), ReadHeaderTimeout: 10 * time.Second}
	serving := make(chan error, 1)
	go func() {
		serving <- server.Serve(&tcp.Port{Listener: l, Handler: &tcp.Handler{Server: g.tcp, Guard: watch}})
	}()
	t.Cleanup(func() {
		drain()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		events.Shutdown(ctx)
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-serving
	})
	return g
}

// run runs something until the test ends.
func run(t testing.TB, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
