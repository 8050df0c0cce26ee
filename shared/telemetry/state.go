package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stateCollector turns [Sources] into gauges, read when scraped.
type stateCollector struct {
	sources                                       *atomic.Pointer[Sources]
	ready, sessions, cache, nodes, expected, sync *prometheus.Desc
	servers                                       *prometheus.Desc
}

func newStateCollector(sources *atomic.Pointer[Sources]) *stateCollector {
	return &stateCollector{
		sources:  sources,
		ready:    desc("erlmcp_ready", "1 while the process takes requests."),
		sessions: desc("erlmcp_sessions_active", "Sessions that this process holds."),
		cache:    desc("erlmcp_memory_ets", "Bytes of memory that sessions, with the messages that wait in them, and the catalogue take: an estimate."),
		nodes:    desc("erlmcp_cluster_nodes", "Nodes that live, as this one knows."),
		expected: desc("erlmcp_cluster_nodes_expected", "Nodes that there should be, as this one knows: those that live or are missing."),
		servers:  prometheus.NewDesc("erlmcp_servers", "Servers behind, by the state that they are in as this process knows.", []string{"state"}, nil),
		sync:     desc("erlmcp_cluster_sync_status", "1 while this node's membership and catalogue are fresh: the metrics service answered in the last 10 s, and the registry was there in the last 30."),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ready, c.sessions, c.cache, c.nodes, c.expected, c.sync, c.servers} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	s := c.sources.Load()
	var (
		ready    bool
		sessions int
		cache    uint64
		cluster  Cluster
	)
	if s.Ready != nil {
		ready = s.Ready()
	}
	if s.Sessions != nil {
		sessions = s.Sessions()
	}
	if s.CacheBytes != nil {
		cache = s.CacheBytes()
	}
	if s.Cluster != nil {
		cluster = s.Cluster()
	}
	send := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	send(c.ready, zeroOne(ready))
	send(c.sessions, float64(sessions))
	send(c.cache, float64(cache))
	send(c.nodes, float64(cluster.Nodes))
	send(c.expected, float64(cluster.Expected))
	if s.Servers != nil {
		for state, n := range s.Servers() {
			out <- prometheus.MustNewConstMetric(c.servers, prometheus.GaugeValue, float64(n), state)
		}
	}
	send(c.sync, zeroOne(cluster.InSync))
}

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

func zeroOne(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
