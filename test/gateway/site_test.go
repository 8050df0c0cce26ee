package gateway_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"

	"erlmcp.dev/examples/fixtures"
	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/owners"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/streamhttp"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session"
	"erlmcp.dev/services/session/ends"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	sessionredis "erlmcp.dev/services/session/store/redis"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/seal"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/upstream/dial"
	"erlmcp.dev/shared/upstream/mcphttp"
	"erlmcp.dev/shared/upstream/pool"
)

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// kinds are the stores that sessions are kept in.
var kinds = []string{"memory", "redis"}

// onEachStore runs a test with each kind of store.
func onEachStore(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// site is gateways, owners and a catalogue.
type site struct {
	t        *testing.T
	o        options
	keys     *seal.Keys
	log      *slog.Logger
	dialer   *dial.Dialer
	shelf    *shelf
	held     store.Store
	owners   []*ownerNode
	gateways []*gatewayNode
}

type options struct {
	store          string // of kinds; memory
	owners         int    // 1
	gateways       int    // 1
	servers        []*registryv1.Server
	lease, idle    time.Duration
	maxSessions    int
	authn          access.Authenticator
	maxBody        int64
	principalLimit int
	events         int // most events kept of a session
	inputWait      time.Duration
	resultLease    time.Duration
	drain          time.Duration // 300 ms
}

func newSite(t *testing.T, o options) *site {
	t.Helper()
	o.owners, o.gateways = max(o.owners, 1), max(o.gateways, 1)
	if o.drain == 0 {
		o.drain = 300 * time.Millisecond
	}
	if o.authn == nil {
		o.authn = access.Anonymous{}
	}
	keys, err := seal.New([]byte(rand.Text() + rand.Text()))
	must(t, err)
	s := &site{t: t, o: o, keys: keys, log: slog.New(slog.DiscardHandler), shelf: &shelf{now: catalog.New()}}
	if testing.Verbose() && os.Getenv("GATEWAY_LOG") != "" {
		s.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	transport := mcphttp.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	s.dialer = &dial.Dialer{Transport: transport, Log: s.log}
	limits := store.Limits{PrincipalSessions: o.principalLimit, Events: o.events, ResultLease: o.resultLease}
	if o.store == "redis" {
		client, err := redisx.New(redisx.Settings{Mode: redisx.Single, Addresses: []string{testkit.Redis(t)}})
		must(t, err)
		t.Cleanup(func() { _ = client.Close() })
		s.held = sessionredis.New(sessionredis.Config{Client: client, Limits: limits})
	} else {
		s.held = memory.New(limits)
	}
	s.refresh()
	for i := range o.owners {
		s.owners = append(s.owners, s.newOwner(fmt.Sprintf("owner-%d", i)))
	}
	for i := range o.gateways {
		s.gateways = append(s.gateways, s.newGateway(i))
	}
	return s
}

// id is that of a client's session.
func (s *site) id(c *client) string {
	s.t.Helper()
	plain, err := s.keys.Open("erlmcp session id v1", c.session, nil)
	must(s.t, err)
	id, err := uuid.FromBytes(plain)
	must(s.t, err)
	return id.String()
}

// logged is how many events the log of a client's standing stream has.
func (s *site) logged(c *client) uint64 {
	s.t.Helper()
	page, err := s.held.Read(s.t.Context(), s.id(c), "0", 0, 1000)
	must(s.t, err)
	return uint64(len(page.Events))
}

// refresh finds out what the servers offer now, as the registry would.
func (s *site) refresh() {
	s.t.Helper()
	change := &registryv1.WatchCatalogResponse{Version: s.shelf.Current().Version() + 1}
	for _, server := range s.o.servers {
		offer, err := s.dialer.Describe(s.t.Context(), server)
		if err != nil {
			s.t.Fatalf("describing %s: %v", server.GetName(), err)
		}
		change.Servers = append(change.Servers, &registryv1.CatalogServer{Server: server, Offer: offer, State: registryv1.ServerState_SERVER_STATE_READY})
	}
	s.shelf.apply(change)
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

func (s *shelf) follow(f func(before, now *catalog.Catalog)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, f)
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

// ownerNode is one process of the session service.
type ownerNode struct {
	*owner.Owner
	name  string
	wire  *wire // what others reach it by
	lease *lease
	stop  func() // hands its sessions over
}

// die makes an owner one whose process is gone without a word: nobody reaches it, and its lease runs out. What it had
// under way at servers goes on there.
func (n *ownerNode) die() {
	n.lease.freeze(true)
	n.wire.cut()
}

// lease is a store whose leases can be left to run out, as if the process were frozen for a while.
type lease struct {
	store.Store
	mu     sync.Mutex
	frozen bool
}

func (l *lease) freeze(frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = frozen
}

var errFrozen = errors.New("frozen")

func (l *lease) Beat(ctx context.Context, held store.Lease) error {
	l.mu.Lock()
	frozen := l.frozen
	l.mu.Unlock()
	if frozen {
		return errFrozen
	}
	return l.Store.Beat(ctx, held)
}

// Renew renews the hold on a call under a key.
func (l *lease) Renew(ctx context.Context, key store.ResultKey, holder string) error {
	l.mu.Lock()
	frozen := l.frozen
	l.mu.Unlock()
	if frozen {
		return errFrozen
	}
	return l.Store.Renew(ctx, key, holder)
}

func (s *site) newOwner(name string) *ownerNode {
	s.t.Helper()
	local, err := rpc.NewLocal(rpc.LocalConfig{Node: name, Log: s.log})
	must(s.t, err)
	n := &ownerNode{name: name, wire: newWire(local), lease: &lease{Store: s.held}}
	node := store.Node{Name: name, Address: name}
	shared := pool.New(pool.Config{Open: s.dialer.Shared})
	opener := &ends.Opener{Dialer: s.dialer, Pool: shared, Programs: &stdio.Runner{}}
	n.Owner = owner.New(owner.Config{
		Node: node, Store: n.lease, Shared: true, Catalog: s.shelf, Opener: opener, Log: s.log.With("node", name),
		Lease: s.o.lease, Drain: s.o.drain, IdleTime: s.o.idle, MaxSessions: s.o.maxSessions, InputWait: s.o.inputWait,
	})
	session.New(session.Config{Owner: n.Owner, Store: s.held, Opener: opener, Node: node}).Register(local)
	s.shelf.follow(n.CatalogChanged)
	n.stop = run(s.t, n.Run, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		n.wire.cut()
		if err := local.Close(ctx); err != nil {
			s.t.Error(err)
		}
		_ = shared.Close()
	})
	testkit.Eventually(s.t, func() bool {
		nodes, err := s.held.Nodes(s.t.Context())
		for _, n := range nodes {
			if n.Name == name {
				return true
			}
		}
		return err != nil
	}, patience)
	return n
}

// dial reaches an owner by its address.
func (s *site) dial(address string) (grpc.ClientConnInterface, error) {
	for _, n := range s.owners {
		if n.name == address {
			return n.wire, nil
		}
	}
	return nil, fmt.Errorf("no owner at %s", address)
}

// gatewayNode is one gateway with its port.
type gatewayNode struct {
	s      *site
	engine *engine.Engine
	owners *owners.Owners
	drain  context.CancelFunc
	url    string
	http   *streamhttp.Handler
	client *http.Client
	stop   func()
}

// unmeasured drops what is measured.
type unmeasured struct{}

func (unmeasured) Request(engine.Measured) {}

// newGateway makes a gateway whose "some owner" is another one for each.
func (s *site) newGateway(i int) *gatewayNode {
	s.t.Helper()
	servers := pool.New(pool.Config{Open: s.dialer.Shared})
	g := &gatewayNode{s: s}
	g.owners = owners.New(owners.Config{Any: &some{s, i}, Dial: s.dial, Log: s.log})
	draining, drain := context.WithCancel(context.Background())
	g.drain = drain
	g.engine = engine.New(engine.Config{
		Catalog: s.shelf, Servers: servers, Owners: g.owners, Sealer: s.keys, Meter: unmeasured{}, Draining: draining, Version: "test", Log: s.log, InputWait: s.o.inputWait,
	})
	s.shelf.follow(servers.CatalogChanged)
	s.shelf.follow(g.engine.CatalogChanged)
	watch := &guard.Guard{Authenticator: s.o.authn, MaxBody: s.o.maxBody}
	g.http = &streamhttp.Handler{Engine: g.engine, Guard: watch, Draining: draining}
	mux := http.NewServeMux()
	mux.Handle("/mcp", g.http)
	mux.Handle("/mcp/{view}", g.http)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	g.url = "http://" + l.Addr().String() + "/mcp"
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	g.client = &http.Client{Transport: transport}
	g.stop = run(s.t, func(context.Context) error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil, func() {
		drain()
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		g.owners.Close()
		_ = servers.Close()
	})
	return g
}

// run runs something until stop is called or the test ends; before and after are done then too.
func run(t *testing.T, part func(context.Context) error, after func(), before ...func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	stop = sync.OnceFunc(func() {
		for _, f := range before {
			f()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if after != nil {
			after()
		}
	})
	t.Cleanup(stop)
	return stop
}

// fixture runs a server with the conformance fixtures, under a name that is also its view's.
func fixture(t *testing.T, name string, era fixtures.Era) *registryv1.Server {
	server := fixtures.New(fixtures.Options{Era: era})
	t.Cleanup(server.Close)
	return served(t, name, server.Handler())
}

// served runs an MCP server over HTTP.
func served(t *testing.T, name string, h http.Handler) *registryv1.Server {
	upstream := httptest.NewServer(h)
	t.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	return &registryv1.Server{Name: name, Prefix: new(string), Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: upstream.URL}}}
}

// spoken serves a server of the official SDK, and ends the sessions that nobody ended: those of owners that left them to
// others. What is between it and its clients is optional.
func spoken(t *testing.T, name string, server *sdk.Server, o *sdk.StreamableHTTPOptions, between ...func(http.Handler) http.Handler) *registryv1.Server {
	t.Cleanup(func() {
		for session := range server.Sessions() {
			_ = session.Close()
		}
	})
	var h http.Handler = sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, o)
	for _, b := range between {
		h = b(h)
	}
	return served(t, name, h)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
