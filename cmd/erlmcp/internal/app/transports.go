package app

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/limit"
	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/sse"
	"erlmcp.dev/gateway/transport/streamhttp"
	"erlmcp.dev/gateway/transport/tcp"
	"erlmcp.dev/gateway/transport/websocket"
	"erlmcp.dev/shared/telemetry"
)

// transports are the ways in for clients.
type transports struct {
	http *streamhttp.Handler
	ws   *websocket.Handler
	tcp  *tcp.Handler
	sse  *sse.Handler
}

func (p *process) newTransports(e *engine.Engine, g *guard.Guard) *transports {
	quiet := p.cfg.Limits.KeepAlive
	t := &transports{
		http: &streamhttp.Handler{Engine: e, Guard: g, KeepAlive: quiet, Draining: p.draining, Count: p.metrics.Transport(telemetry.TransportHTTP)},
		ws:   &websocket.Handler{Server: p.channels(telemetry.TransportWebSocket, e), Guard: g, Ping: quiet},
		tcp:  &tcp.Handler{Server: p.channels(telemetry.TransportTCP, e), Guard: g},
		sse:  &sse.Handler{Engine: e, Guard: g, KeepAlive: quiet, Draining: p.draining, Count: p.metrics.Transport(telemetry.TransportSSE), Log: p.log},
	}
	p.drains("sse requests", t.sse.Shutdown)
	p.drains("http streams", t.http.Shutdown)
	return t
}

// drains has something end when the process stops, within the drain time.
func (p *process) drains(name string, end func(context.Context)) {
	p.add(name, func(ctx context.Context) error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), p.cfg.Drain)
		defer cancel()
		end(drain)
		return nil
	})
}

// channels serves the duplex connections of a transport. On stopping, open requests get the drain time.
func (p *process) channels(transport string, e *engine.Engine) *channel.Server {
	s := &channel.Server{Engine: e, Draining: p.draining, Count: p.metrics.Transport(transport), Log: p.log}
	p.drains(transport+" connections", s.Shutdown)
	return s
}

// connections counts what is open, by transport.
func (t *transports) connections() map[string]int {
	return map[string]int{
		telemetry.TransportHTTP:      t.http.Connections(),
		telemetry.TransportWebSocket: t.ws.Server.Connections(),
		telemetry.TransportTCP:       t.tcp.Server.Connections(),
		telemetry.TransportSSE:       t.sse.Connections(),
	}
}

// serveTransports opens the ports: one for each transport, and the API's, which has them all.
func (p *process) serveTransports(t *transports, api *http.ServeMux, places *limit.Connections) error {
	secure, err := p.clientsCertificate()
	if err != nil {
		return err
	}
	ports := []struct {
		name  string
		port  int
		mount func(*http.ServeMux)
	}{
		{"http", p.cfg.Ports.HTTP, func(mux *http.ServeMux) {
			mux.Handle("/mcp", t.http)
			mux.Handle("/mcp/{view}", t.http)
		}},
		{"ws", p.cfg.Ports.WS, func(mux *http.ServeMux) {
			mux.Handle("/ws", t.ws)
			mux.Handle("/ws/{view}", t.ws)
		}},
		{"sse", p.cfg.Ports.SSE, func(mux *http.ServeMux) {
			mux.HandleFunc("GET /sse", t.sse.Stream)
			mux.HandleFunc("GET /sse/{view}", t.sse.Stream)
			mux.HandleFunc("POST /messages", t.sse.Message)
			mux.HandleFunc("POST /messages/{view}", t.sse.Message)
		}},
	}
	for _, o := range ports {
		mux := http.NewServeMux()
		o.mount(mux)
		o.mount(api)
		l, err := p.listenClients(o.name, o.port, places, secure, "h2", "http/1.1")
		if err != nil {
			return err
		}
		p.serveClientsOn(o.name, l, mux)
	}
	l, err := p.listenClients("api", p.cfg.Ports.API, places, secure, "http/1.1") // HTTP/2 can't share a port with TCP
	if err != nil {
		return err
	}
	p.serveClientsOn("api", &tcp.Port{Listener: l, Handler: t.tcp}, api)
	return nil
}

// clientsCertificate is what clients are shown; nil where their ports speak no TLS.
func (p *process) clientsCertificate() (*certificate, error) {
	if p.cfg.HTTPS.Cert.PEM == "" {
		return nil, nil
	}
	return newCertificate(p.cfg.HTTPS.Cert, p.cfg.HTTPS.Key, p.log)
}

// listenClients opens a port for clients, with TLS where there is a certificate for them.
func (p *process) listenClients(name string, port int, places *limit.Connections, secure *certificate, protocols ...string) (net.Listener, error) {
	l, err := p.listen(name, port)
	if err != nil {
		return nil, err
	}
	l = places.Listener(l, secure == nil)
	if secure == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return secure.get(), nil },
	}), nil
}
