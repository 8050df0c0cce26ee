package system

import (
	"encoding/hex"
	"fmt"
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
		metrics  string
	}{
		{"grpc", func(c *collector) string { return c.url }, ""},
		{"http/protobuf", func(c *collector) string { return c.http }, ""},
		{"http/protobuf", func(c *collector) string { return c.http + "/v1/traces" }, ""},
		{"grpc", func(c *collector) string { return c.url }, "none"},
	} {
		c, p := newCollector(t), &parents{}
		up := cluster.RunUp(t, cluster.Erlmcp{
			Binary: erlmcp, Config: fmt.Sprintf("servers:\n  - {name: modern, url: %q}\n", p.served(t, true)),
			Env: []string{
				"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + x.url(c), "OTEL_EXPORTER_OTLP_PROTOCOL=" + x.protocol, "OTEL_METRICS_EXPORTER=" + x.metrics,
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
