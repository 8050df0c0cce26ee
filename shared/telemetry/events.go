package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Queue is of events on their way to the metrics service.
type Queue interface {
	// Waiting is how many entries, each of many events, it holds.
	Waiting() int
	// Dropped is how many events were given up since the process started.
	Dropped() uint64
}

// Events adds series about a queue of events of a kind.
func (m *Metrics) Events(kind string, q Queue) {
	labels := prometheus.Labels{"kind": kind}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "erlmcp_events_waiting", ConstLabels: labels, Help: "Entries on disk that the metrics service does not have yet.",
		}, func() float64 { return float64(q.Waiting()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "erlmcp_events_dropped_total", ConstLabels: labels, Help: "Events that were given up before the metrics service had them.",
		}, func() float64 { return float64(q.Dropped()) }),
	)
}
