package system

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	metricsv1 "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	seriesv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collector takes traces and metrics by OTLP, and as strictly as others do.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	url    string // over gRPC
	http   string // over HTTP
	mu     sync.Mutex
	spans  []*tracev1.Span
	series map[string]map[string]*seriesv1.Metric // as they came last, by service.instance.id and name
	wrong  []string
}

func newCollector(t *testing.T) *collector {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collector{url: "http://" + l.Addr().String(), series: map[string]map[string]*seriesv1.Metric{}}, grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	metricsv1.RegisterMetricsServiceServer(server, metricsCollector{c: c})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	web := httptest.NewServer(c)
	c.http = web.URL
	t.Cleanup(func() {
		web.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, what := range c.wrong {
			t.Error(what)
		}
	})
	return c
}

// ServeHTTP takes them over HTTP.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var answer proto.Message
	switch {
	case err != nil:
	case r.URL.Path == "/v1/traces":
		req := &collectorv1.ExportTraceServiceRequest{}
		if err = proto.Unmarshal(body, req); err == nil {
			answer, err = c.Export(r.Context(), req)
		}
	case r.URL.Path == "/v1/metrics":
		req := &metricsv1.ExportMetricsServiceRequest{}
		if err = proto.Unmarshal(body, req); err == nil {
			answer, err = metricsCollector{c: c}.Export(r.Context(), req)
		}
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wrong = append(c.wrong, "a collector has no place "+r.URL.Path)
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, _ := proto.Marshal(answer) // it is empty
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(text)
}

// Export implements collectorv1.TraceServiceServer.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// metricsCollector is the collector's service of metrics.
type metricsCollector struct {
	metricsv1.UnimplementedMetricsServiceServer
	c *collector
}

// Export implements metricsv1.MetricsServiceServer.
func (m metricsCollector) Export(_ context.Context, req *metricsv1.ExportMetricsServiceRequest) (*metricsv1.ExportMetricsServiceResponse, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, r := range req.GetResourceMetrics() {
		name := attribute(r.GetResource().GetAttributes(), "service.name") + " " + attribute(r.GetResource().GetAttributes(), "service.instance.id")
		if m.c.series[name] == nil {
			m.c.series[name] = map[string]*seriesv1.Metric{}
		}
		for _, s := range r.GetScopeMetrics() {
			for _, one := range s.GetMetrics() {
				m.c.series[name][one.GetName()] = one
			}
		}
	}
	return &metricsv1.ExportMetricsServiceResponse{}, nil
}

func attribute(all []*commonv1.KeyValue, key string) string {
	for _, a := range all {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// trace is a trace's spans, by id.
func (c *collector) trace(id string) map[string]*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := map[string]*tracev1.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == id {
			spans[hex.EncodeToString(s.GetSpanId())] = s
		}
	}
	return spans
}

// traces are the ids of all that came.
func (c *collector) traces() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]bool{}
	for _, s := range c.spans {
		ids[hex.EncodeToString(s.GetTraceId())] = true
	}
	return ids
}

// metric is a series as it came last from a process.
func (c *collector) metric(service, node, name string) *seriesv1.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.series[service+" "+node][name]
}

// from are the processes whose metrics came.
func (c *collector) from() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for name := range c.series {
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}
