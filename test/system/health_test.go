package system

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// wellness is what a node says at /health and /ready.
type wellness struct {
	code         int
	status       string
	missing      []string // dependencies that are not well
	ready        bool
	dependencies int
}

func well(ctx context.Context, n *cluster.Node) (w wellness, err error) {
	var health struct {
		Status       string
		Dependencies map[string]struct{ Status, Error string }
	}
	code, body, err := n.Get(ctx, "/health")
	if err == nil {
		err = json.Unmarshal([]byte(body), &health)
	}
	if err != nil {
		return w, err
	}
	w.code, w.status, w.dependencies = code, health.Status, len(health.Dependencies)
	for name, d := range health.Dependencies {
		if d.Status != "healthy" {
			w.missing = append(w.missing, name)
		}
	}
	slices.Sort(w.missing)
	code, _, err = n.Get(ctx, "/ready")
	w.ready = code == http.StatusOK
	return w, err
}

// becomes waits until a node says so, and that these of its dependencies are not well.
func becomes(t *testing.T, n *cluster.Node, code int, status string, ready bool, missing ...string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		w, err := well(t.Context(), n)
		if err == nil && (w.code != code || w.status != status || w.ready != ready || slices.ContainsFunc(missing, func(name string) bool { return !slices.Contains(w.missing, name) })) {
			err = fmt.Errorf("%s says %+v, not %d %s, ready %v, without %v", n.Name(), w, code, status, ready, missing)
		}
		return err
	}, time.Minute)
}

// Each role tells which of its dependencies are away. What goes on without them is degraded, and is not to be restarted
// for it, however long it takes; what is of no use without its store is unhealthy once that took long.
func TestHealthTellsWhatEachRoleMisses(t *testing.T) {
	t.Parallel() // it waits most of the time, as do the others that say so
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_UNHEALTHY_AFTER=10s"}}, cluster.Layout{Gateways: 1, Sessions: 1, Durable: true})
	gateway, session := c.Gateways[0], c.Sessions[0]
	allWell := func(t *testing.T) {
		t.Helper()
		for n, dependencies := range map[*cluster.Node]int{gateway: 5, session: 4, c.Registry: 4, c.Metrics: 3} {
			becomes(t, n, 200, "healthy", true)
			if w, err := well(t.Context(), n); err != nil || w.dependencies != dependencies {
				t.Errorf("%s tells of %d dependencies: %v", n.Name(), w.dependencies, err)
			}
		}
	}
	allWell(t)

	t.Run("the stores", func(t *testing.T) {
		c.Redis.Kill()
		c.Postgres.Kill()
		becomes(t, gateway, 200, "degraded", true, "redis", "session")
		becomes(t, session, 200, "degraded", false, "redis")
		becomes(t, c.Registry, 200, "degraded", false, "registry", "session")
		becomes(t, c.Metrics, 200, "degraded", false, "metrics")
		becomes(t, session, 503, "unhealthy", false, "redis")
		becomes(t, c.Registry, 503, "unhealthy", false, "registry")
		becomes(t, c.Metrics, 503, "unhealthy", false, "metrics")
		// Without its store the metrics service hears nobody.
		becomes(t, gateway, 200, "degraded", true, "metrics", "redis", "session")
		for _, s := range []*testkit.Server{c.Redis, c.Postgres} {
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		allWell(t)
	})

	t.Run("the other services", func(t *testing.T) {
		synced := func(want float64) {
			t.Helper()
			testkit.Eventually(t, func() error {
				got, err := metric(t.Context(), gateway, "erlmcp_cluster_sync_status")
				if err == nil && got != want {
					err = fmt.Errorf("erlmcp_cluster_sync_status is %v", got)
				}
				return err
			}, time.Minute)
		}
		stop := func(n *cluster.Node) {
			t.Helper()
			if err := n.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synced(1)
		stop(session)
		stop(c.Registry)
		synced(0)
		becomes(t, gateway, 200, "degraded", true, "registry", "session")
		if w, err := well(t.Context(), gateway); err != nil || slices.Contains(w.missing, "metrics") {
			t.Errorf("it is the registry that is missed, and not %v: %v", w.missing, err)
		}
		stop(c.Metrics)
		becomes(t, gateway, 200, "degraded", true, "metrics", "registry", "session")
		for _, n := range []*cluster.Node{c.Metrics, c.Registry, session} {
			if err := n.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		allWell(t)
		synced(1)
	})
}

// A gateway that never got a catalogue serves nobody: it may be restarted after long.
func TestAGatewayWithoutACatalogueIsUnhealthyInTheEnd(t *testing.T) {
	t.Parallel()
	ports, err := cluster.FreePorts(8)
	if err != nil {
		t.Fatal(err)
	}
	nobody := cluster.Address(ports[7])
	gateway := &cluster.Node{Role: "gateway", Ports: cluster.Ports{Health: ports[0]}}
	gateway.Process = cluster.Run(t, cluster.Program{
		Name: "gateway", Path: erlmcp, Args: []string{"gateway"},
		Env: []string{
			"ERLMCP_ENV=dev", "ERLMCP_LISTEN=127.0.0.1", "ERLMCP_CLUSTER_SECRET=" + rand.Text() + rand.Text(), "ERLMCP_UNHEALTHY_AFTER=3s",
			"ERLMCP_DATA_DIR=" + t.TempDir(), fmt.Sprintf("HEALTH_PORT=%d", ports[0]), fmt.Sprintf("METRICS_PORT=%d", ports[1]), fmt.Sprintf("ERLMCP_PORT=%d", ports[2]),
			fmt.Sprintf("ERLMCP_HTTP_PORT=%d", ports[3]), fmt.Sprintf("ERLMCP_WS_PORT=%d", ports[4]), fmt.Sprintf("ERLMCP_SSE_PORT=%d", ports[5]), fmt.Sprintf("ERLMCP_GRPC_PORT=%d", ports[6]),
			"ERLMCP_REGISTRY_ADDR=" + nobody, "ERLMCP_SESSION_ADDR=" + nobody, "ERLMCP_METRICS_ADDR=" + nobody, "RATE_LIMIT_ENABLED=false",
		},
	})
	becomes(t, gateway, 200, "degraded", false, "catalogue", "metrics", "registry", "session")
	becomes(t, gateway, 503, "unhealthy", false, "catalogue", "metrics", "registry", "session")
}

// One process of all roles takes clients only while the stores that it was given are reachable, and is not to be
// restarted for them: without them it would not start.
func TestOneProcessIsReadyOnlyWithItsStores(t *testing.T) {
	stores := map[string]*testkit.Server{}
	for name, start := range map[string]func(context.Context, string) (*testkit.Server, error){
		"redis":    func(ctx context.Context, dir string) (*testkit.Server, error) { return testkit.StartRedis(ctx, dir) },
		"postgres": func(ctx context.Context, dir string) (*testkit.Server, error) { return testkit.StartPostgres(ctx, dir) },
	} {
		server, err := start(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		stores[name] = server
	}
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{
		"REDIS_URL=" + stores["redis"].DSN(), "ERLMCP_DB_URL=" + stores["postgres"].DSN(), "ERLMCP_UNHEALTHY_AFTER=1s",
	}})
	becomes(t, up, 200, "healthy", true)
	for _, s := range stores {
		s.Pause()
	}
	becomes(t, up, 200, "degraded", false, "metrics", "redis", "registry")
	for _, s := range stores {
		s.Resume()
	}
	becomes(t, up, 200, "healthy", true)
}

// What is accepted and does nothing says so.
func TestStatusShowsSettingsWithoutEffect(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERL_FULLSWEEP_AFTER=10", "ERL_AFLAGS=+P 5000000"}})
	var status struct{ Settings map[string]string }
	_, body, err := up.Get(t.Context(), "/status")
	if err == nil {
		err = json.Unmarshal([]byte(body), &status)
	}
	if err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string]string{"ERL_FULLSWEEP_AFTER": "10: no effect", "ERL_AFLAGS": "+P: no effect"} {
		if got := status.Settings[variable]; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", variable, got)
		}
	}
}
