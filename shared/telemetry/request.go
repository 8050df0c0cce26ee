package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"erlmcp.dev/shared/mcp"
)

// Request is the series of one kind of request: one transport, one method.
type Request struct {
	total, errors prometheus.Counter
	duration      prometheus.Observer
}

// Done counts a request that was answered d after it came. A failed one ended in a JSON-RPC error or in a result
// with isError. trace is the id of its trace, empty for none: it becomes an exemplar of the duration.
func (r *Request) Done(d time.Duration, failed bool, trace string) {
	r.total.Inc()
	if o, ok := r.duration.(prometheus.ExemplarObserver); ok && trace != "" {
		o.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": trace})
	} else {
		r.duration.Observe(d.Seconds())
	}
	if failed {
		r.errors.Inc()
	}
}

// buckets are in seconds: from what a list costs to what a slow tool takes. 1 s is one, since an alert asks for it.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// requestTable has a place for each transport and method. A place is filled when first asked for: a histogram is
// some twenty lines of every scrape, and most transports never see most methods.
type requestTable struct {
	total, errors *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	transport     map[string]int
	method        map[string]int
	cells         []atomic.Pointer[Request]
}

func newRequestTable(r prometheus.Registerer) *requestTable {
	labels := []string{"transport", "method"}
	t := &requestTable{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "erlmcp_requests_total", Help: "Requests that were answered.",
		}, labels),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "erlmcp_request_errors_total", Help: "Requests that were answered with an error, or with a result that says isError.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "erlmcp_request_duration_seconds", Help: "Time from a request's arrival to its answer.", Buckets: buckets,
		}, labels),
		transport: positions(transports),
		method:    positions(methods),
		cells:     make([]atomic.Pointer[Request], len(transports)*len(methods)),
	}
	r.MustRegister(t.total, t.errors, t.duration)
	for _, transport := range transports[:len(transports)-1] {
		t.find(transport, mcp.MethodToolsCall) // so that each name is there before the first request
	}
	return t
}

func (t *requestTable) find(transport, method string) *Request {
	i, ok := t.transport[transport]
	if !ok {
		transport, i = Other, len(transports)-1
	}
	j, ok := t.method[method]
	if !ok {
		method, j = Other, len(methods)-1
	}
	cell := &t.cells[i*len(methods)+j]
	if r := cell.Load(); r != nil {
		return r
	}
	r := &Request{
		total:    t.total.WithLabelValues(transport, method),
		errors:   t.errors.WithLabelValues(transport, method),
		duration: t.duration.WithLabelValues(transport, method),
	}
	cell.Store(r) // whoever else came first stored the same series
	return r
}

func positions(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, name := range names {
		m[name] = i
	}
	return m
}
