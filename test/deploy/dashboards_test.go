package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

const dashboards = "../../deploy/monitoring/grafana"

// scraped starts Prometheus, which scrapes processes every second, and gives where it answers.
func scraped(t *testing.T, nodes []*cluster.Node) (address string) {
	t.Helper()
	ports, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, n := range nodes {
		targets = append(targets, fmt.Sprintf("%q", cluster.Address(n.Ports.Metrics)))
	}
	dir := t.TempDir()
	config := "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: erlmcp\n    static_configs: [{targets: [" + strings.Join(targets, ", ") + "]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address = cluster.Address(ports[0])
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, testkit.Program(t, "prometheus", "prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = command.Wait() // killed
	})
	return address
}

// query asks Prometheus, and gives how many series the answer has.
func query(ctx context.Context, address, expr string) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s %w", response.Status, answer.Error, err)
	}
	return len(answer.Data.Result), nil
}

// Each query of each dashboard shows something of a cluster that is in use: no metric and no label is made up.
func TestDashboardsShowWhatThereIs(t *testing.T) {
	erlmcp, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_DEMO=true"}}, cluster.Layout{})
	address := scraped(t, many.Nodes())
	ask := func(ctx context.Context) { // the usual things, and some that fail
		for _, request := range []struct{ method, url, body string }{
			{http.MethodGet, "http://" + many.API.Address() + "/api/v1/servers/none", ""},
			{http.MethodPost, many.URL(""), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`},
			{http.MethodPost, many.URL(""), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"orders_GetProduct","arguments":{"sku":"lighthouse"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`},
		} {
			req, err := http.NewRequestWithContext(ctx, request.method, request.url, strings.NewReader(request.body))
			if err != nil {
				t.Error(err)
				return
			}
			for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} {
				req.Header.Set(k, v)
			}
			if strings.Contains(request.body, "tools/call") {
				req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
				req.Header.Set("Mcp-Method", "tools/call")
				req.Header.Set("Mcp-Name", "orders_GetProduct")
			}
			if response, err := http.DefaultClient.Do(req); err == nil {
				_ = response.Body.Close()
			}
		}
	}
	files, err := filepath.Glob(dashboards + "/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	seen := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			UID, Title string
			Panels     []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if other, ok := seen[dashboard.UID]; ok || dashboard.UID == "" {
			t.Errorf("%s has the uid %q, as has %s", file, dashboard.UID, other)
		}
		seen[dashboard.UID] = file
		if len(dashboard.Panels) == 0 {
			t.Errorf("%s is empty", file)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				expr := strings.NewReplacer("$instance", ".*", "$__rate_interval", "20s").Replace(target.Expr)
				testkit.Eventually(t, func() error {
					ask(t.Context())
					n, err := query(t.Context(), address, expr)
					if err == nil && n == 0 {
						err = fmt.Errorf("it shows nothing")
					}
					if err != nil {
						return fmt.Errorf("%s, %q: %s: %w", dashboard.Title, panel.Title, target.Expr, err)
					}
					return nil
				}, 30*time.Second)
			}
		}
	}
}

// What the four roles show is clean in Prometheus' own judgement.
func TestMetricsAreClean(t *testing.T) {
	promtool := testkit.Program(t, "promtool", "prometheus")
	erlmcp, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp}, cluster.Layout{})
	for _, n := range many.Nodes() {
		_, text, err := n.Get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for name, kind := range contract {
			if !strings.Contains(text, "\n# TYPE "+name+" "+kind+"\n") {
				t.Errorf("%s does not show %s as a %s", n.Name(), name, kind)
			}
		}
		command := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		command.Stdin = strings.NewReader(text)
		out, err := command.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if name, _, _ := strings.Cut(line, " "); contract[name] == "" { // the contract's names are what they are
				t.Errorf("%s: %s", n.Name(), line)
			}
		}
		if err != nil && len(out) == 0 {
			t.Errorf("promtool: %v", err)
		}
	}
}

// contract is what operators' alerts and dashboards rely on.
var contract = map[string]string{
	"erlmcp_up": "gauge", "erlmcp_ready": "gauge",
	"erlmcp_requests_total": "counter", "erlmcp_request_duration_seconds": "histogram", "erlmcp_request_errors_total": "counter",
	"erlmcp_sessions_active": "gauge", "erlmcp_sessions_created_total": "counter", "erlmcp_sessions_closed_total": "counter",
	"erlmcp_transport_connections_total": "counter", "erlmcp_transport_messages_sent_total": "counter", "erlmcp_transport_messages_received_total": "counter",
	"erlmcp_memory_total": "gauge", "erlmcp_memory_limit": "gauge", "erlmcp_memory_processes": "gauge", "erlmcp_memory_ets": "gauge",
	"erlmcp_process_count": "gauge", "erlmcp_reductions_total": "counter",
	"erlmcp_cluster_nodes": "gauge", "erlmcp_cluster_nodes_expected": "gauge", "erlmcp_cluster_sync_status": "gauge",
}
