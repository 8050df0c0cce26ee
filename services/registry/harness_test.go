package registry_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
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
