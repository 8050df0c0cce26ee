package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxServers is how many servers have series of their own; calls of others count as [Other].
const maxServers = 500

// serverTable has the series of calls by server. Servers are declared by administrators, so their names are few.
type serverTable struct {
	calls, errors, seconds *prometheus.CounterVec
	servers                sync.Map // *serverSeries by name
	known                  atomic.Int64
}

type serverSeries struct{ calls, errors, seconds prometheus.Counter }

func newServerTable(r prometheus.Registerer) *serverTable {
	label := []string{"server"}
	t := &serverTable{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "erlmcp_server_calls_total", Help: "Requests that were for a server behind, by server.",
		}, label),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "erlmcp_server_errors_total", Help: "Those that ended in an error, or in a result that says isError.",
		}, label),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "erlmcp_server_call_seconds_total", Help: "Time that they took, in seconds.",
		}, label),
	}
	r.MustRegister(t.calls, t.errors, t.seconds)
	return t
}

// Server counts a request for a server that took d.
func (m *Metrics) Server(name string, d time.Duration, failed bool) {
	s := m.servers.find(name)
	s.calls.Inc()
	s.seconds.Add(d.Seconds())
	if failed {
		s.errors.Inc()
	}
}

func (t *serverTable) find(name string) *serverSeries {
	if s, ok := t.servers.Load(name); ok {
		return s.(*serverSeries)
	}
	if name != Other && t.known.Add(1) > maxServers {
		t.known.Add(-1)
		return t.find(Other)
	}
	s, there := t.servers.LoadOrStore(name, &serverSeries{
		t.calls.WithLabelValues(name), t.errors.WithLabelValues(name), t.seconds.WithLabelValues(name),
	})
	if there && name != Other {
		t.known.Add(-1)
	}
	return s.(*serverSeries)
}
