package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Transport is the series of one transport.
type Transport struct {
	connections, sent, received prometheus.Counter
}

// Connected counts a connection that was accepted.
func (t *Transport) Connected() { t.connections.Inc() }

// Sent counts one JSON-RPC message to a client.
func (t *Transport) Sent() { t.sent.Inc() }

// Received counts one JSON-RPC message from a client.
func (t *Transport) Received() { t.received.Inc() }

func newTransports(r prometheus.Registerer) map[string]*Transport {
	vec := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"transport"})
		r.MustRegister(v)
		return v
	}
	connections := vec("erlmcp_transport_connections_total", "Client connections that were accepted.")
	sent := vec("erlmcp_transport_messages_sent_total", "JSON-RPC messages sent to clients.")
	received := vec("erlmcp_transport_messages_received_total", "JSON-RPC messages received from clients.")
	m := make(map[string]*Transport, len(transports))
	for _, name := range transports {
		m[name] = &Transport{
			connections: connections.WithLabelValues(name),
			sent:        sent.WithLabelValues(name),
			received:    received.WithLabelValues(name),
		}
	}
	return m
}
