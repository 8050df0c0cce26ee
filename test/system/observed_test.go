package system

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// parent is a trace context of a client.
func parent(trace string, kept bool) map[string]string {
	flags := "00"
	if kept {
		flags = "01"
	}
	return map[string]string{"traceparent": "00-" + trace + "-00f067aa0ba902b7-" + flags}
}

// Traces and metrics go to the collector in either way; metrics are those of /metrics, with the traces of their
// exemplars, or stay here where that is asked for.
func TestTheCollectorGetsTracesAndMetrics(t *testing.T) {
	for _, x := range []struct {
		protocol string
		url      func(*collector) string
		traces   string
		metrics  string
	}{
		{"grpc", func(c *collector) string { return c.url }, "", ""},
		{"http/protobuf", func(c *collector) string { return c.http }, "", ""},
		{"http/protobuf", func(c *collector) string { return c.http + "/v1/traces" }, "", ""},
		{"grpc", func(c *collector) string { return c.url }, "", "none"},
		{"grpc", func(c *collector) string { return c.url }, "none", ""},
	} {
		c, p := newCollector(t), &parents{}
		up := cluster.RunUp(t, cluster.Erlmcp{
			Binary: erlmcp, Config: fmt.Sprintf("servers:\n  - {name: modern, url: %q}\n", p.served(t, true)),
			Env: []string{
				"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + x.url(c), "OTEL_EXPORTER_OTLP_PROTOCOL=" + x.protocol, "OTEL_TRACES_EXPORTER=" + x.traces, "OTEL_METRICS_EXPORTER=" + x.metrics,
				"OTEL_SERVICE_NAME=desk", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=100",
			},
		})
		awaitServers(t, place{rest: cluster.Address(up.Ports.API)}, 1)
		const id = "4bf92f3577b34da6a3ce929d0e0e4736"
		testkit.Eventually(t, func() error {
			answer, err := callTraced(t, up.URL("modern"), "work", "", parent(id, true))
			if err == nil && !strings.Contains(answer, `"complete"`) {
				err = fmt.Errorf("it answers %s", answer)
			}
			return err
		}, 20*time.Second)
		if x.traces == "none" {
			testkit.Eventually(t, func() bool { return c.from() != "" }, 20*time.Second)
			if err := up.Stop(t.Context()); err != nil { // what waits is sent at the end
				t.Error(err)
			}
			if traces := c.traces(); len(traces) > 0 {
				t.Errorf("traces came: %v", traces)
			}
			continue
		}
		testkit.Eventually(t, func() error {
			if len(c.trace(id)) < 2 {
				return fmt.Errorf("%s: %d spans came", x.protocol, len(c.trace(id)))
			}
			return nil
		}, 20*time.Second)
		if x.metrics == "none" {
			if err := up.Stop(t.Context()); err != nil { // what waits is sent at the end
				t.Error(err)
			}
			if from := c.from(); from != "" {
				t.Errorf("metrics came from %s", from)
			}
			continue
		}
		testkit.Eventually(t, func() error {
			counted, exemplar := 0.0, ""
			for _, point := range c.metric("desk", "up@127.0.0.1", "erlmcp_requests_total").GetSum().GetDataPoints() {
				if attribute(point.GetAttributes(), "method") == "tools/call" && attribute(point.GetAttributes(), "transport") == "http" {
					counted = point.GetAsDouble()
				}
			}
			for _, point := range c.metric("desk", "up@127.0.0.1", "erlmcp_request_duration_seconds").GetHistogram().GetDataPoints() {
				for _, e := range point.GetExemplars() {
					exemplar = hex.EncodeToString(e.GetTraceId())
				}
			}
			if counted == 0 || exemplar != id {
				return fmt.Errorf("%s: from %q came %v calls, with an exemplar of the trace %q", x.protocol, c.from(), counted, exemplar)
			}
			return nil
		}, 20*time.Second)
	}
}

// Which traces are kept is the client's to say, and by the part that is set where it says nothing.
func TestTracesAreKeptAsTheClientOrTheRateSays(t *testing.T) {
	const kept, dropped = "4bf92f3577b34da6a3ce929d0e0e4701", "4bf92f3577b34da6a3ce929d0e0e4702"
	for rate, others := range map[string]bool{"0": false, "1": true} {
		c, p := newCollector(t), &parents{}
		up := cluster.RunUp(t, cluster.Erlmcp{
			Binary: erlmcp, Config: fmt.Sprintf("servers:\n  - {name: modern, url: %q}\n", p.served(t, true)),
			Env: []string{"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_SAMPLING_RATE=" + rate},
		})
		awaitServers(t, place{rest: cluster.Address(up.Ports.API)}, 1)
		for _, header := range []map[string]string{nil, parent(dropped, false), parent(kept, true)} {
			testkit.Eventually(t, func() error {
				answer, err := callTraced(t, up.URL("modern"), "work", "", header)
				if err == nil && !strings.Contains(answer, `"complete"`) {
					err = fmt.Errorf("it answers %s", answer)
				}
				return err
			}, 20*time.Second)
		}
		if err := up.Stop(t.Context()); err != nil { // what waits is sent at the end
			t.Error(err)
		}
		traces := c.traces()
		if !traces[kept] || traces[dropped] || (len(traces) > 1) != others {
			t.Errorf("at the rate %s the collector has %v", rate, traces)
		}
	}
}

// What is logged of a call, at the gateway and at its owner, names its trace, and so does the slowest of a bucket in
// /metrics.
func TestLogsAndMetricsNameTheTrace(t *testing.T) {
	t.Parallel()
	c, p := newCollector(t), &parents{}
	many := cluster.RunCluster(t, cluster.Erlmcp{
		Binary: erlmcp, Config: fmt.Sprintf("servers:\n  - {name: modern, url: %q}\n  - {name: legacy, url: %q}\n", p.served(t, true), p.served(t, false)),
		Env: []string{"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_METRICS_EXPORTER=none"},
	}, cluster.Layout{Gateways: 1, Sessions: 1})
	gateway := many.Gateways[0]
	awaitServers(t, place{rest: cluster.Address(gateway.Ports.API)}, 2)
	const whole = "4bf92f3577b34da6a3ce929d0e0e4710"
	testkit.Eventually(t, func() error {
		answer, err := callTraced(t, gateway.URL("modern"), "work", "", parent(whole, true))
		if err == nil && !strings.Contains(answer, `"complete"`) {
			err = fmt.Errorf("it answers %s", answer)
		}
		return err
	}, 20*time.Second)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster.Address(gateway.Ports.Metrics)+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	exemplar := regexp.MustCompile(`(?m)^erlmcp_request_duration_seconds_bucket\{method="tools/call",transport="http",le="[^"]+"\} \d+ # \{trace_id="` + whole + `"\} `)
	if err != nil || !exemplar.Match(text) {
		t.Errorf("/metrics has no exemplar of the trace, %v:\n%s", err, regexp.MustCompile(`(?m)^erlmcp_request_duration.*tools/call.*$`).FindAll(text, -1))
	}

	says := func(n *cluster.Node, message, id string) {
		t.Helper()
		testkit.Eventually(t, func() error {
			for line := range strings.Lines(n.Log()) {
				if strings.Contains(line, message) && strings.Contains(line, "trace_id="+id+" ") {
					return nil
				}
			}
			return fmt.Errorf("%s does not log %q with the trace %s:\n%s", n.Name(), message, id, n.Log())
		}, 20*time.Second)
	}
	for i, x := range []struct {
		view string
		who  *cluster.Node
	}{{"modern", gateway}, {"legacy", many.Sessions[0]}} {
		id := fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e472%d", i)
		answer, err := callTraced(t, gateway.URL(x.view), "break", "", parent(id, true))
		if err != nil || !strings.Contains(answer, `"error"`) {
			t.Errorf("a broken call is answered %s, %v", answer, err)
		}
		says(x.who, `"call failed"`, id)
	}
	if err := many.Sessions[0].Stop(t.Context()); err != nil {
		t.Error(err)
	}
	const alone = "4bf92f3577b34da6a3ce929d0e0e4730"
	begin, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.URL(""), strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	begin.Header.Set("Content-Type", "application/json")
	begin.Header.Set("Accept", "application/json, text/event-stream")
	begin.Header.Set("Traceparent", parent(alone, true)["traceparent"])
	refused, err := http.DefaultClient.Do(begin)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Body.Close()
	if refused.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without an owner a session is answered %s", refused.Status)
	}
	says(gateway, `"opening a session failed"`, alone)
}
