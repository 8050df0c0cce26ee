package otlp_test

import (
	"testing"

	"erlmcp.dev/shared/otlp"
)

func TestEachSignalGoesToItsPlace(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "")
	for _, c := range []struct {
		endpoint string
		http     bool
		traces   string
		metrics  string
	}{
		{"http://collector:4317", false, "http://collector:4317", "http://collector:4317"},
		{"http://collector:4318", true, "http://collector:4318/v1/traces", "http://collector:4318/v1/metrics"},
		{"http://collector:4318/", true, "http://collector:4318/v1/traces", "http://collector:4318/v1/metrics"},
		{"https://example.test/otlp", true, "https://example.test/otlp/v1/traces", "https://example.test/otlp/v1/metrics"},
		{"http://collector:4318/v1/traces", true, "http://collector:4318/v1/traces", "http://collector:4318/v1/metrics"},
		{"http://collector:4318/v1/traces/", true, "http://collector:4318/v1/traces", "http://collector:4318/v1/metrics"},
	} {
		collector := otlp.Collector{Endpoint: c.endpoint, HTTP: c.http}
		if traces, metrics := collector.URL(otlp.Traces), collector.URL(otlp.Metrics); traces != c.traces || metrics != c.metrics {
			t.Errorf("%s: traces go to %s and metrics to %s", c.endpoint, traces, metrics)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://elsewhere:4317")
	if got := (otlp.Collector{Endpoint: "http://collector:4317"}).URL(otlp.Metrics); got != "" {
		t.Errorf("the variable of metrics is overruled by %s", got)
	}
}
