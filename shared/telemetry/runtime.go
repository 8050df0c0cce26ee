package telemetry

import (
	"os"
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// runtimeCollector reads memory, goroutines and CPU time when scraped, all in one go so that they fit together.
type runtimeCollector struct {
	memory, limit, stacks, goroutines, reductions *prometheus.Desc
}

func newRuntimeCollector() *runtimeCollector {
	return &runtimeCollector{
		memory:     desc("erlmcp_memory_total", "Bytes of memory that this process holds from the system (Go runtime, without what it gave back)."),
		limit:      desc("erlmcp_memory_limit", "Bytes of memory that this process may hold: the lowest of GOMEMLIMIT, the cgroup's limit and the machine's memory."),
		stacks:     desc("erlmcp_memory_processes", "Bytes of memory of goroutines' stacks."),
		goroutines: desc("erlmcp_process_count", "Goroutines that live."),
		reductions: desc("erlmcp_reductions_total", "CPU work done: microseconds of CPU time, user and system, that this process has used since it started."),
	}
}

// Describe implements prometheus.Collector.
func (c *runtimeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.memory, c.limit, c.stacks, c.goroutines, c.reductions} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *runtimeCollector) Collect(out chan<- prometheus.Metric) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	read := func(i int) float64 {
		if samples[i].Value.Kind() != metrics.KindUint64 { // a future runtime without it
			return 0
		}
		return float64(samples[i].Value.Uint64())
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		out <- prometheus.MustNewConstMetric(d, kind, v)
	}
	send(c.memory, prometheus.GaugeValue, read(0)-read(1))
	send(c.limit, prometheus.GaugeValue, memoryLimit(os.ReadFile, goMemoryLimit()))
	send(c.stacks, prometheus.GaugeValue, read(2)+read(3))
	send(c.goroutines, prometheus.GaugeValue, read(4))
	send(c.reductions, prometheus.CounterValue, float64(cpuTime().Microseconds()))
}
