package telemetry_test

import (
	"io"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/telemetry"
)

// contract is what operators' alerts and dashboards rely on. It changes only when their contract does.
var contract = map[string]string{
	"erlmcp_up":                                "gauge",
	"erlmcp_ready":                             "gauge",
	"erlmcp_requests_total":                    "counter",
	"erlmcp_request_duration_seconds":          "histogram",
	"erlmcp_request_errors_total":              "counter",
	"erlmcp_sessions_active":                   "gauge",
	"erlmcp_sessions_created_total":            "counter",
	"erlmcp_sessions_closed_total":             "counter",
	"erlmcp_transport_connections_total":       "counter",
	"erlmcp_transport_messages_sent_total":     "counter",
	"erlmcp_transport_messages_received_total": "counter",
	"erlmcp_memory_total":                      "gauge",
	"erlmcp_memory_limit":                      "gauge",
	"erlmcp_memory_processes":                  "gauge",
	"erlmcp_memory_ets":                        "gauge",
	"erlmcp_process_count":                     "gauge",
	"erlmcp_reductions_total":                  "counter",
	"erlmcp_cluster_nodes":                     "gauge",
	"erlmcp_cluster_nodes_expected":            "gauge",
	"erlmcp_cluster_sync_status":               "gauge",
}

func TestAFreshProcessHasEverySeriesOfTheContract(t *testing.T) {
	body := scrape(t, telemetry.NewMetrics())
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (erlmcp_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		got[m[1]] = m[2]
	}
	if diff := cmp.Diff(contract, got); diff != "" {
		t.Errorf("names and types (-contract +scrape):\n%s", diff)
	}
	for name := range contract {
		if !regexp.MustCompile(`(?m)^` + name + `(_count)?(\{.*\})? \d`).MatchString(body) {
			t.Errorf("%s has a type and no sample", name)
		}
	}
	for _, want := range []string{"erlmcp_up 1\n", "go_goroutines ", "process_cpu_seconds_total "} {
		if !strings.Contains(body, want) {
			t.Errorf("the scrape lacks %q", want)
		}
	}
}

func TestNamesOfOursFollowPrometheusCustom(t *testing.T) {
	m := telemetry.NewMetrics()
	problems, err := testutil.GatherAndLint(m.Registerer().(prometheus.Gatherer))
	if err != nil {
		t.Fatal(err)
	}
	// The contract's own names break custom here, and stay.
	fixed := map[string]bool{"erlmcp_memory_total": true, "erlmcp_process_count": true}
	for _, p := range problems {
		if !fixed[p.Metric] {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestRequestsAreCountedByTransportAndMethod(t *testing.T) {
	m := telemetry.NewMetrics()
	m.Request(telemetry.TransportTCP, mcp.MethodToolsCall).Done(3*time.Millisecond, false, "")
	m.Request(telemetry.TransportTCP, mcp.MethodToolsCall).Done(2*time.Second, true, "")
	expect(t, scrape(t, m),
		`erlmcp_requests_total{method="tools/call",transport="tcp"} 2`,
		`erlmcp_request_errors_total{method="tools/call",transport="tcp"} 1`,
		`erlmcp_request_duration_seconds_bucket{method="tools/call",transport="tcp",le="0.005"} 1`,
		`erlmcp_request_duration_seconds_bucket{method="tools/call",transport="tcp",le="1"} 1`,
		`erlmcp_request_duration_seconds_bucket{method="tools/call",transport="tcp",le="2.5"} 2`,
	)
}

func TestInventedMethodsAndTransportsMakeNoSeries(t *testing.T) {
	m := telemetry.NewMetrics()
	m.Request("http", "made/up").Done(0, true, "")
	m.Request("http", "made/up/too").Done(0, true, "")
	m.Request("pigeon", mcp.MethodPing).Done(0, false, "")
	m.Transport("pigeon").Connected()
	body := scrape(t, m)
	expect(t, body,
		`erlmcp_requests_total{method="other",transport="http"} 2`,
		`erlmcp_requests_total{method="ping",transport="other"} 1`,
		`erlmcp_transport_connections_total{transport="other"} 1`,
	)
	if strings.Contains(body, "made") || strings.Contains(body, "pigeon") {
		t.Error("a client's word became a label")
	}
}

// However many servers there are, and whoever counts at a time, the series are bounded, and no call is lost.
func TestServersBeyondTheBoundCountTogether(t *testing.T) {
	const servers, most = 600, 500
	m := telemetry.NewMetrics()
	var counting sync.WaitGroup
	for range 4 {
		counting.Go(func() {
			for i := range servers {
				m.Server("server-"+strconv.Itoa(i), time.Second, i%2 == 0)
			}
		})
	}
	counting.Wait()
	body := scrape(t, m)
	for name, want := range map[string]float64{"erlmcp_server_calls_total": 4 * servers, "erlmcp_server_errors_total": 2 * servers, "erlmcp_server_call_seconds_total": 4 * servers} {
		series, sum := 0, 0.0
		for _, found := range regexp.MustCompile(`(?m)^`+name+`\{server="[^"]+"\} (\S+)$`).FindAllStringSubmatch(body, -1) {
			n, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			series, sum = series+1, sum+n
		}
		if series > most+1 || series < most/2 || sum != want {
			t.Errorf("%s has %d series that come to %v, want %v", name, series, sum, want)
		}
		if !strings.Contains(body, "\n"+name+`{server="other"} `) {
			t.Errorf("%s counts none as other", name)
		}
	}
	m.Server("server-0", time.Second, false)
	expect(t, scrape(t, m), `erlmcp_server_calls_total{server="server-0"} 5`)
}

func TestSessionsAndTransportsAreCounted(t *testing.T) {
	m := telemetry.NewMetrics()
	m.SessionCreated()
	m.SessionCreated()
	m.SessionClosed()
	ws := m.Transport(telemetry.TransportWebSocket)
	ws.Connected()
	ws.Received()
	ws.Received()
	ws.Sent()
	expect(t, scrape(t, m),
		`erlmcp_sessions_created_total 2`,
		`erlmcp_sessions_closed_total 1`,
		`erlmcp_transport_connections_total{transport="websocket"} 1`,
		`erlmcp_transport_messages_received_total{transport="websocket"} 2`,
		`erlmcp_transport_messages_sent_total{transport="websocket"} 1`,
		`erlmcp_transport_connections_total{transport="stdio"} 0`,
	)
}

func TestGaugesFollowTheirSources(t *testing.T) {
	m := telemetry.NewMetrics()
	expect(t, scrape(t, m), `erlmcp_ready 0`, `erlmcp_sessions_active 0`, `erlmcp_cluster_nodes 0`)
	sessions := 7
	m.Watch(telemetry.Sources{
		Ready:      func() bool { return true },
		Sessions:   func() int { return sessions },
		CacheBytes: func() uint64 { return 4096 },
		Cluster:    func() telemetry.Cluster { return telemetry.Cluster{Nodes: 2, Expected: 3, InSync: true} },
	})
	expect(t, scrape(t, m),
		`erlmcp_ready 1`, `erlmcp_sessions_active 7`, `erlmcp_memory_ets 4096`,
		`erlmcp_cluster_nodes 2`, `erlmcp_cluster_nodes_expected 3`, `erlmcp_cluster_sync_status 1`)
	sessions = 5
	expect(t, scrape(t, m), `erlmcp_sessions_active 5`)
}

func TestMemoryInUseIsBelowItsLimit(t *testing.T) {
	body := scrape(t, telemetry.NewMetrics())
	total, limit := sample(t, body, "erlmcp_memory_total"), sample(t, body, "erlmcp_memory_limit")
	if total < 1<<20 || total > limit {
		t.Errorf("memory in use is %v of %v", total, limit)
	}
	if n := sample(t, body, "erlmcp_process_count"); n < 1 {
		t.Errorf("goroutines: %v", n)
	}
}

func TestCountingARequestAllocatesNothing(t *testing.T) {
	m := telemetry.NewMetrics()
	if n := testing.AllocsPerRun(1000, func() {
		m.Request(telemetry.TransportHTTP, mcp.MethodToolsCall).Done(time.Millisecond, true, "")
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	m := telemetry.NewMetrics()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Request(telemetry.TransportHTTP, mcp.MethodToolsCall).Done(time.Millisecond, false, "")
		}
	})
}

func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("scrape: %d, %v", w.Code, err)
	}
	return string(body)
}

func expect(t *testing.T, body string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(body, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			t.Errorf("the scrape lacks %s; it has:\n%s", line,
				strings.Join(regexp.MustCompile(`(?m)^`+name+`.*$`).FindAllString(body, -1), "\n"))
		}
	}
}

func sample(t *testing.T, body, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no sample of %s", name)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
