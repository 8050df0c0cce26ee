package telemetry

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"erlmcp.dev/shared/otlp"
)

// Export is the sending of series to a collector, under the names that they have at /metrics.
type Export struct{ provider *sdk.MeterProvider }

// Export sends the series to a collector each minute, or as often as OTEL_METRIC_EXPORT_INTERVAL says, in milliseconds,
// until Close, which must follow. It does not wait for the collector: what that does not take is left out, and the next
// sending has all of it.
func (m *Metrics) Export(ctx context.Context, to otlp.Collector) (*Export, error) {
	exporter, err := metricExporter(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("preparing the sending of metrics: %w", err)
	}
	about, err := to.Resource(ctx)
	if err != nil {
		return nil, err
	}
	series := producer{bridge.NewMetricProducer(bridge.WithGatherer(m.registry))}
	return &Export{sdk.NewMeterProvider(sdk.WithResource(about), sdk.WithReader(sdk.NewPeriodicReader(exporter, sdk.WithProducer(series))))}, nil
}

func metricExporter(ctx context.Context, to otlp.Collector) (sdk.Exporter, error) {
	url := to.URL(otlp.Metrics)
	if to.HTTP {
		var options []otlpmetrichttp.Option
		if url != "" {
			options = append(options, otlpmetrichttp.WithEndpointURL(url))
		}
		return otlpmetrichttp.New(ctx, options...)
	}
	var options []otlpmetricgrpc.Option
	if url != "" {
		options = append(options, otlpmetricgrpc.WithEndpointURL(url))
	}
	return otlpmetricgrpc.New(ctx, options...)
}

// lastSending is how long the last sending may take. A collector that is away must not hold up the end of the process.
const lastSending = 2 * time.Second

// Close sends the series once more.
func (e *Export) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastSending)
	defer cancel()
	if err := e.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last metrics: %w", err)
	}
	return nil
}

// producer gives exemplars' traces as OTLP has them: the bridge leaves them in hex, and a collector refuses all that
// comes with an id of 32 bytes.
type producer struct{ sdk.Producer }

// Produce implements metric.Producer.
func (p producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	scopes, err := p.Producer.Produce(ctx)
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			histogram, ok := m.Data.(metricdata.Histogram[float64])
			if !ok {
				continue
			}
			for _, point := range histogram.DataPoints {
				for i := range point.Exemplars {
					e := &point.Exemplars[i]
					e.TraceID, _ = hex.DecodeString(string(e.TraceID)) // ours are hex
				}
			}
		}
	}
	return scopes, err
}
