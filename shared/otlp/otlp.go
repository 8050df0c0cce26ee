// Package otlp says where what a process observes of itself is sent by OTLP, and as whose. Traces and metrics are sent by
// the packages that make them.
package otlp

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Collector is where it is sent.
type Collector struct {
	// Endpoint is the collector's URL.
	Endpoint string
	// HTTP sends by OTLP over HTTP, else over gRPC.
	HTTP bool
	// Service, Version and Node name this process.
	Service, Version, Node string
}

// Signals, as paths over HTTP name them.
const (
	Traces  = "traces"
	Metrics = "metrics"
)

// URL is where a signal goes: over HTTP to a path of its own below the endpoint, which may name that of traces. It is
// empty where the signal's own variable, such as OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, says it to the exporter.
func (c Collector) URL(signal string) string {
	if os.Getenv("OTEL_EXPORTER_OTLP_"+strings.ToUpper(signal)+"_ENDPOINT") != "" {
		return ""
	}
	if !c.HTTP {
		return c.Endpoint
	}
	base := strings.TrimSuffix(strings.TrimSuffix(c.Endpoint, "/"), "/v1/"+Traces)
	return strings.TrimSuffix(base, "/") + "/v1/" + signal
}

// Resource describes this process. What OTEL_RESOURCE_ATTRIBUTES says is part of it.
func (c Collector) Resource(ctx context.Context) (*resource.Resource, error) {
	r, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", c.Service), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Node),
	))
	if err != nil {
		return nil, fmt.Errorf("describing this process: %w", err)
	}
	return r, nil
}
