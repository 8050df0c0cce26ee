package telemetry

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"erlmcp.dev/shared/mcp"
)

// Metrics holds the process's Prometheus series. The erlmcp_ names and types are a contract with operators' alerts
// and dashboards. Every one of them is there from the start, at zero. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	sources  atomic.Pointer[Sources]

	requests  *requestTable
	servers   *serverTable
	transport map[string]*Transport
	sessions  struct{ created, closed prometheus.Counter }
}

// Sources are read at each scrape; they must be quick and safe for concurrent use. One that is nil counts as zero.
type Sources struct {
	// Ready says whether the process takes requests.
	Ready func() bool
	// Sessions is how many sessions this process holds now, adopted ones included.
	Sessions func() int
	// CacheBytes is the memory of sessions and catalogue, in bytes.
	CacheBytes func() uint64
	// Servers counts the servers behind by their state, such as "ready".
	Servers func() map[string]int
	// Cluster is what is known of the other nodes.
	Cluster func() Cluster
}

// Cluster is a node's knowledge of the cluster.
type Cluster struct {
	// Nodes live now, this one included.
	Nodes int
	// Expected is how many there should be.
	Expected int
	// InSync says that the membership is fresh and the catalogue is the registry's newest.
	InSync bool
}

// NewMetrics makes the series.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.sources.Store(&Sources{})
	m.requests = newRequestTable(m.registry)
	m.servers = newServerTable(m.registry)
	m.transport = newTransports(m.registry)
	m.sessions.created = counter("erlmcp_sessions_created_total", "Sessions that clients opened at this process.")
	m.sessions.closed = counter("erlmcp_sessions_closed_total", "Sessions that ended at this process, for whatever reason.")

	up := gauge("erlmcp_up", "1 while the process runs.")
	up.Set(1)
	m.registry.MustRegister(up, m.sessions.created, m.sessions.closed,
		newStateCollector(&m.sources), newRuntimeCollector(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch sets where the gauges come from, all at once; an earlier call's sources are forgotten.
func (m *Metrics) Watch(s Sources) { m.sources.Store(&s) }

// Registerer takes series beyond the contract's.
func (m *Metrics) Registerer() prometheus.Registerer { return m.registry }

// Request finds the series of one kind of request. It allocates only the first time; still, where one connection asks
// the same again and again, the caller may keep the answer.
func (m *Metrics) Request(transport, method string) *Request {
	return m.requests.find(transport, method)
}

// Transport finds the series of a transport. Callers keep the answer: one lookup a connection at most.
func (m *Metrics) Transport(transport string) *Transport {
	if t, ok := m.transport[transport]; ok {
		return t
	}
	return m.transport[Other]
}

// SessionCreated counts a session that a client opened here. One that was adopted was counted where it was opened.
func (m *Metrics) SessionCreated() { m.sessions.created.Inc() }

// SessionClosed counts a session that ended. One that was handed over has not.
func (m *Metrics) SessionClosed() { m.sessions.closed.Inc() }

// Handler serves /metrics: a few scrapes at a time, the rest gets 503.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // a broken series must not hide the others
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true, // exemplars need it
		Timeout:             10 * time.Second,
	})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// methods are the values of the label method.
var methods = []string{
	mcp.MethodInitialize, mcp.MethodPing, mcp.MethodDiscover, mcp.MethodListen,
	mcp.MethodToolsList, mcp.MethodToolsCall,
	mcp.MethodPromptsList, mcp.MethodPromptsGet,
	mcp.MethodResourcesList, mcp.MethodTemplatesList, mcp.MethodResourcesRead,
	mcp.MethodSubscribe, mcp.MethodUnsubscribe,
	mcp.MethodComplete, mcp.MethodSetLevel,
	Other,
}
