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
	"regexp"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

const dashboards = "../../deploy/monitoring/grafana"

// scraped starts Prometheus, which scrapes processes every second, with the features that compose gives it, and gives
// where it answers.
func scraped(t *testing.T, nodes ...*cluster.Node) (address string) {
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
	args := []string{"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address}
	compose, err := os.ReadFile("../../compose/docker-compose.monitoring.yml")
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, regexp.MustCompile(`--enable-feature=[a-z,-]+`).FindAllString(string(compose), -1)...)
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, testkit.Program(t, "prometheus", "prometheus"), args...)
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
	var data struct{ Result []json.RawMessage }
	err = asked(ctx, "http://"+address+"/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// asked reads what Prometheus answers.
func asked(ctx context.Context, url string, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %s %w", response.Status, answer.Error, err)
	}
	return nil
}

// Dashboards lead from a slow bucket to the trace of a call in it: Prometheus keeps what /metrics says of traces.
func TestPrometheusKeepsExemplars(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{
		"ERLMCP_DEMO=true", "OTEL_ENABLED=true", "OTEL_METRICS_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", // away
	}})
	address := scraped(t, up)
	testkit.Eventually(t, func() error {
		use(t.Context(), t, cluster.Address(up.Ports.API), up.URL(""))
		var data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		err := asked(t.Context(), fmt.Sprintf("http://%s/api/v1/query_exemplars?query=erlmcp_request_duration_seconds_bucket&start=%d&end=%d", address, time.Now().Unix()-600, time.Now().Unix()+600), &data)
		if err == nil && (len(data) == 0 || len(data[0].Exemplars) == 0 || len(data[0].Exemplars[0].Labels["trace_id"]) != 32) {
			err = fmt.Errorf("it has %v", data)
		}
		return err
	}, 30*time.Second)
}

// use does the usual things, and some that fail.
func use(ctx context.Context, t *testing.T, api, mcp string) {
	t.Helper()
	for _, request := range []struct{ method, url, body string }{
		{http.MethodGet, "http://" + api + "/api/v1/servers/none", ""},
		{http.MethodPost, mcp, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`},
		{http.MethodPost, mcp, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"orders_GetProduct","arguments":{"sku":"lighthouse"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`},
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

// Each query of each dashboard shows something of a cluster that is in use: no metric and no label is made up.
func TestDashboardsShowWhatThereIs(t *testing.T) {
	erlmcp, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_DEMO=true"}}, cluster.Layout{})
	address := scraped(t, many.Nodes()...)
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
					use(t.Context(), t, many.API.Address(), many.URL(""))
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

// What the four roles show, once they were used, is clean in Prometheus' own judgement.
func TestMetricsAreClean(t *testing.T) {
	promtool := testkit.Program(t, "promtool", "prometheus")
	erlmcp, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_DEMO=true"}}, cluster.Layout{})
	testkit.Eventually(t, func() error { // series of servers come with the first call
		for _, g := range many.Gateways {
			use(t.Context(), t, cluster.Address(g.Ports.API), g.URL(""))
			_, text, err := g.Get(t.Context(), "/metrics")
			if err != nil {
				return err
			}
			for _, name := range []string{"erlmcp_server_calls_total", "erlmcp_server_errors_total", "erlmcp_server_call_seconds_total"} {
				if !strings.Contains(text, "\n"+name+`{server="orders"} `) {
					return fmt.Errorf("%s has no %s of the server", g.Name(), name)
				}
			}
		}
		return nil
	}, 30*time.Second)
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
