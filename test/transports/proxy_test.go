package transports

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Stock reverse proxies, with the configurations that examples/proxies shows; only ports and times are this test's.
func TestThroughStockProxies(t *testing.T) {
	dir := t.TempDir()
	program, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", dir)
	must(t, err)
	fixtures, err := cluster.BuildFixtures(t.Context(), dir)
	must(t, err)
	many := cluster.RunCluster(t, cluster.Erlmcp{
		Binary: program, Env: []string{"ERLMCP_KEEP_ALIVE=1s"},
		Config: "servers:\n  - {name: fixtures, prefix: \"\", promote_after: 50ms, url: \"" + cluster.RunFixtures(t, fixtures, "legacy").URL + "\"}\n",
	}, cluster.Layout{})
	testkit.Eventually(t, func() error { return ready(many.API.Address(), 1) }, time.Minute)
	ports, err := cluster.FreePorts(3)
	must(t, err)
	one, two := many.Gateways[0].Ports, many.Gateways[1].Ports
	fit := strings.NewReplacer(
		"127.0.0.1:8080", cluster.Address(one.API), "127.0.0.1:8180", cluster.Address(two.API),
		"port 9090", "port "+strconv.Itoa(one.Health), "port 9190", "port "+strconv.Itoa(two.Health),
		"listen 8000", "listen "+cluster.Address(ports[0]), "bind :8000", "bind "+cluster.Address(ports[1]), "bind :8001", "bind "+cluster.Address(ports[2]),
		"60s", "3s", // of quiet
		"worker_processes auto;", "worker_processes 1; daemon off; pid "+dir+"/nginx.pid; error_log stderr;",
		"http {", "http { access_log off; client_body_temp_path "+dir+"/body; proxy_temp_path "+dir+"/proxy; fastcgi_temp_path "+dir+"/f; uwsgi_temp_path "+dir+"/u; scgi_temp_path "+dir+"/s;",
	)
	config := func(name string) string {
		text, err := os.ReadFile("../../examples/proxies/" + name)
		must(t, err)
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(fit.Replace(string(text))), 0o600))
		return path
	}
	cluster.Run(t, cluster.Program{
		Name: "nginx", Path: testkit.Program(t, "nginx", "nginx-light"), Args: []string{"-p", dir, "-c", config("nginx.conf")}, Ready: cluster.ReadyPort(ports[0]),
	})
	cluster.Run(t, cluster.Program{
		Name: "haproxy", Path: testkit.Program(t, "haproxy", "haproxy"), Args: []string{"-db", "-f", config("haproxy.cfg")}, Ready: cluster.ReadyPort(ports[1]),
	})
	proxies := map[string]address{
		"nginx":   {api: []string{cluster.Address(ports[0])}},
		"haproxy": {api: []string{cluster.Address(ports[1])}},
	}
	t.Run("cells", func(t *testing.T) {
		for name, at := range proxies {
			for _, w := range ways {
				if w.name == "stdio" || w.name == "tcp" && name == "nginx" {
					continue
				}
				at := at
				if w.name == "tcp" {
					at.api = []string{cluster.Address(ports[2])}
				}
				for _, version := range []string{mcp.V2025_11_25, mcp.V2026_07_28} {
					if version == mcp.V2026_07_28 && !w.modern {
						continue
					}
					t.Run(name+"/"+w.name+"/"+version, func(t *testing.T) {
						t.Parallel()
						c := newClient(t, w.dial(t, at, ""), version).connect()
						checkAll(t, mcpPromises, world{http: w.name == "http"}, c)
						t.Run("lives through quiet times", func(t *testing.T) {
							c.t = t
							livesThroughQuiet(t, c)
						})
						c.t = t
					})
				}
			}
		}
	})
}

// livesThroughQuiet waits for longer than the proxies bear with silence, and then hears of a change on the stream
// that was open all the while.
func livesThroughQuiet(t *testing.T, c *client) {
	if c.modern() {
		c.begin(mcp.MethodListen, `{"notifications":{"toolsListChanged":true}}`)
		c.note(mcp.MethodAcknowledged)
	}
	c.drain()
	select {
	case <-c.ended:
		t.Fatal("the connection ended")
	case <-time.After(7 * time.Second):
	}
	c.drain()
	c.tool("test_trigger_tool_change", `{}`)
	c.note(mcp.MethodToolsChanged)
}
