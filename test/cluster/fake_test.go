package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fake is a stand-in for erlmcp: this test binary, called as erlmcp is. Its health port is ready and shows its
// environment and arguments; its HTTP port tells its name.
func fake() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	health := http.NewServeMux()
	health.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	health.HandleFunc("/start", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(append(os.Environ(), os.Args[1:]...), "\n"))
	})
	name := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, os.Getenv("ERLMCP_NODE_NAME"), r.URL.Path)
	})
	for variable, handler := range map[string]http.Handler{"HEALTH_PORT": health, "ERLMCP_HTTP_PORT": name} {
		go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Getenv(variable), handler)) }()
	}
	<-ctx.Done()
	os.Exit(0)
}

func TestUpGetsItsConfigurationAndPorts(t *testing.T) {
	node := RunUp(t, Erlmcp{Binary: os.Args[0], Config: "servers: []\n", Env: []string{"ERLMCP_ENV=staging"}})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	status, start, err := node.Get(t.Context(), "/start")
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	lines := strings.Split(start, "\n")
	for _, want := range []string{"up", "--config", "ERLMCP_ENV=staging", fmt.Sprintf("ERLMCP_HTTP_PORT=%d", node.Ports.HTTP)} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is missing in\n%s", want, start)
		}
	}
	for _, line := range lines {
		if file, ok := strings.CutSuffix(line, "erlmcp.yaml"); ok {
			if text, err := os.ReadFile(file + "erlmcp.yaml"); err != nil || string(text) != "servers: []\n" {
				t.Errorf("config: %q, %v", text, err)
			}
		}
	}
	port := node.Ports.HTTP
	node.Kill()
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, node.URL("a")); got != "up@127.0.0.1/mcp/a" || node.Ports.HTTP != port {
		t.Errorf("after a restart: %q on port %d", got, node.Ports.HTTP)
	}
}

func TestClusterRunsEveryRoleOnRealStores(t *testing.T) {
	c := RunCluster(t, Erlmcp{Binary: os.Args[0]}, Layout{})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var roles []string
	for _, n := range c.Nodes() {
		roles = append(roles, n.Role)
	}
	if want := []string{"metrics", "registry", "session", "session", "gateway", "gateway"}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
	_, start, err := c.Gateways[0].Get(t.Context(), "/start")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"REDIS_URL=" + c.Redis.DSN(), "ERLMCP_DB_URL=" + c.Postgres.DSN(), "ERLMCP_REGISTRY_ADDR=" + Address(c.Registry.Ports.GRPC),
		"ERLMCP_SESSION_ADDR=" + Address(c.Sessions[0].Ports.GRPC) + "," + Address(c.Sessions[1].Ports.GRPC),
	} {
		if !slices.Contains(strings.Split(start, "\n"), want) {
			t.Errorf("%s is missing in\n%s", want, start)
		}
	}
	if one, two := get(t, c.URL("")), get(t, c.URL("")); one == two {
		t.Errorf("%s answered twice", one)
	}
	c.Gateways[0].Kill()
	for range 3 {
		if got := get(t, c.URL("")); got != "gateway2@127.0.0.1/mcp" {
			t.Errorf("after gateway1 was killed: %s", got)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
