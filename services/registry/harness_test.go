package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/store/postgres"
	"erlmcp.dev/services/registry/store/sqlite"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/seal"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// overStores runs a test over both stores; open opens the same database each time.
func overStores(t *testing.T, test func(t *testing.T, open func() store.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "registry.db")
		test(t, func() store.Store {
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("postgres", func(t *testing.T) { test(t, onPostgres(t)) })
}

func onPostgres(t *testing.T) (open func() store.Store) {
	dsn := testkit.Postgres(t)
	return func() store.Store {
		s, err := postgres.Open(t.Context(), dsn, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// replica is a registry that is called over the network.
type replica struct {
	registryv1.RegistryServiceClient
	registryv1.AccessServiceClient
	service *registry.Service
	// stop ends it, in order. It is stopped with the test at the latest.
	stop func()
}

// quick are settings for tests; a probe comes only when it is asked for.
func quick(s store.Store, upstreams *upstreams) registry.Config {
	return registry.Config{
		Store: s, Discoverer: upstreams, ProbeInterval: time.Hour, Debounce: 5 * time.Millisecond,
		RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond, DescribeTimeout: 5 * time.Second, LeaseTTL: 600 * time.Millisecond,
	}
}

func start(t *testing.T, c registry.Config) *replica {
	t.Helper()
	if c.Log == nil {
		c.Log = testkit.Logger(t)
	}
	service, err := registry.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.New(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	server, err := rpc.NewServer(rpc.ServerConfig{Authenticator: access.Chain{}, Services: keys, Log: c.Log})
	if err != nil {
		t.Fatal(err)
	}
	service.Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := service.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			t.Error(err)
		}
	})
	conn, err := rpc.Dial(listener.Addr().String(), rpc.ClientConfig{Node: "test", Services: keys})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		_ = conn.Close()
		wg.Wait()
		if err := c.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &replica{registryv1.NewRegistryServiceClient(conn), registryv1.NewAccessServiceClient(conn), service, stop}
}

// upstreams are the servers of a test; it is their Discoverer.
type upstreams struct {
	mu      sync.Mutex
	offers  map[string]*registryv1.Offer
	asked   map[string]int
	asking  map[string]int
	most    map[string]int // asked at a time
	changed map[string]map[*func()]struct{}
	hang    map[string]bool
}

func newUpstreams() *upstreams {
	return &upstreams{
		offers: map[string]*registryv1.Offer{}, asked: map[string]int{}, asking: map[string]int{}, most: map[string]int{},
		changed: map[string]map[*func()]struct{}{}, hang: map[string]bool{},
	}
}

func offer(tools ...string) *registryv1.Offer {
	o := &registryv1.Offer{Eras: []registryv1.Era{registryv1.Era_ERA_MODERN}}
	for _, tool := range tools {
		o.Tools = append(o.Tools, &registryv1.Item{Key: tool, Json: fmt.Appendf(nil, `{"name":%q}`, tool)})
	}
	return o
}

// offer sets what a server offers; without a call it does not answer.
func (u *upstreams) offer(name string, tools ...string) { u.set(name, offer(tools...)) }

// set sets a server's offer; nil makes it silent.
func (u *upstreams) set(name string, o *registryv1.Offer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offers[name] = o
}

// tell lets a server say that its offer changed.
func (u *upstreams) tell(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for changed := range u.changed[name] {
		(*changed)()
	}
}

// hangs makes a server answer nothing at all.
func (u *upstreams) hangs(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hang[name] = true
}

func (u *upstreams) watched(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.changed[name])
}

func (u *upstreams) timesAsked(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[name]
}

func (u *upstreams) mostAtOnce(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.most[name]
}

func (u *upstreams) Describe(ctx context.Context, s *registryv1.Server) (*registryv1.Offer, error) {
	name := s.GetName()
	u.mu.Lock()
	u.asked[name]++
	u.asking[name]++
	u.most[name] = max(u.most[name], u.asking[name])
	o, hang := u.offers[name], u.hang[name]
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.asking[name]--
		u.mu.Unlock()
	}()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if o == nil {
		return nil, errors.New("connection refused")
	}
	return o, nil
}

func (u *upstreams) Watch(ctx context.Context, s *registryv1.Server, _ *registryv1.Offer, changed func()) error {
	name := s.GetName()
	u.mu.Lock()
	if u.changed[name] == nil {
		u.changed[name] = map[*func()]struct{}{}
	}
	u.changed[name][&changed] = struct{}{}
	u.mu.Unlock()
	<-ctx.Done()
	u.mu.Lock()
	delete(u.changed[name], &changed)
	u.mu.Unlock()
	return ctx.Err()
}

func spec(name string) *registryv1.Server {
	return &registryv1.Server{
		Name: name, Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: "http://" + name + ".example/mcp"}},
	}
}

// register registers a server, which must be accepted.
func (r *replica) register(t *testing.T, s *registryv1.Server) *registryv1.ServerStatus {
	t.Helper()
	response, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetStatus()
}

func (r *replica) get(t *testing.T, name string) *registryv1.ServerStatus {
	t.Helper()
	response, err := r.GetServer(t.Context(), &registryv1.GetServerRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetStatus()
}

// becomes waits until a server has a state.
func (r *replica) becomes(t *testing.T, name string, want registryv1.ServerState) *registryv1.ServerStatus {
	t.Helper()
	var last *registryv1.ServerStatus
	testkit.Eventually(t, func() error {
		if last = r.get(t, name); last.State != want {
			return fmt.Errorf("server %s is %v (%s), not %v", name, last.State, last.Message, want)
		}
		return nil
	}, patience)
	return last
}

const (
	pending     = registryv1.ServerState_SERVER_STATE_PENDING
	ready       = registryv1.ServerState_SERVER_STATE_READY
	unreachable = registryv1.ServerState_SERVER_STATE_UNREACHABLE
	conflict    = registryv1.ServerState_SERVER_STATE_CONFLICT
)

// refused checks an error's code and returns its status.
func refused(t *testing.T, err error, want codes.Code) *status.Status {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != want {
		t.Fatalf("%v, want code %v", err, want)
	}
	return st
}

// detail returns an error's detail of a type.
func detail[T any](t *testing.T, st *status.Status) T {
	t.Helper()
	for _, d := range st.Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	var none T
	t.Fatalf("no %T among the details %v", none, st.Details())
	return none
}

// watcher holds the catalogue as it was published to it.
type watcher struct {
	mu       sync.Mutex
	version  uint64
	messages []*registryv1.WatchCatalogResponse
	servers  map[string]*registryv1.CatalogServer
	views    map[string]*registryv1.View
	keys     map[string]*registryv1.KeyRecord
	err      error // how the stream ended
	parts    bool  // several messages may have one version
}

// watch follows a replica until the test ends.
func (r *replica) watch(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{}
	r.follow(t, w)
	return w
}

func (r *replica) follow(t *testing.T, w *watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := r.WatchCatalog(ctx, &registryv1.WatchCatalogRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.receive(t, stream) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (w *watcher) receive(t *testing.T, stream grpc.ServerStreamingClient[registryv1.WatchCatalogResponse]) {
	for {
		m, err := stream.Recv()
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.mu.Unlock()
			return
		}
		w.apply(t, m)
		w.mu.Unlock()
	}
}

func (w *watcher) apply(t *testing.T, m *registryv1.WatchCatalogResponse) {
	if m.Snapshot != (w.servers == nil) || !m.Snapshot && m.Version <= w.version && !w.parts {
		t.Errorf("after version %d came %v", w.version, m)
	}
	if m.Snapshot {
		w.servers, w.views, w.keys = map[string]*registryv1.CatalogServer{}, map[string]*registryv1.View{}, map[string]*registryv1.KeyRecord{}
	}
	w.version = m.Version
	w.messages = append(w.messages, m)
	for _, s := range m.Servers {
		w.servers[s.Server.Name] = s
	}
	for _, v := range m.Views {
		w.views[v.Name] = v
	}
	for _, k := range m.Keys {
		w.keys[k.Key.Id] = k
	}
	for _, n := range m.RemovedServers {
		delete(w.servers, n)
	}
	for _, n := range m.RemovedViews {
		delete(w.views, n)
	}
	for _, n := range m.RemovedKeys {
		delete(w.keys, n)
	}
}

// until waits until the catalogue is as it should be.
func (w *watcher) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	testkit.Eventually(t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.servers == nil || !is() {
			return fmt.Errorf("%s: not at version %d: %v", what, w.version, w.servers)
		}
		return nil
	}, patience)
}

// tools are the names of a server's tools in the catalogue.
func (w *watcher) tools(name string) (tools []string) {
	for _, item := range w.servers[name].GetOffer().GetTools() {
		tools = append(tools, item.GetKey())
	}
	return tools
}
