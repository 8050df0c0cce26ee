package app

import (
	"context"
	"net/http"

	"erlmcp.dev/gateway/engine"
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
	t := &transports{
		http: &streamhttp.Handler{Engine: e, Guard: g, Draining: p.draining},
		ws:   &websocket.Handler{Server: p.channels(telemetry.TransportWebSocket, e), Guard: g},
		tcp:  &tcp.Handler{Server: p.channels(telemetry.TransportTCP, e), Guard: g},
		sse:  &sse.Handler{Engine: e, Guard: g, Draining: p.draining, Count: p.metrics.Transport(telemetry.TransportSSE), Log: p.log},
	}
	p.add("sse requests", func(ctx context.Context) error {
		<-ctx.Done()
		p.untilDrained(t.sse.Shutdown)
		return nil
	})
	return t
}

// channels serves the duplex connections of a transport. On stopping, open requests get the drain time.
func (p *process) channels(transport string, e *engine.Engine) *channel.Server {
	s := &channel.Server{Engine: e, Draining: p.draining, Count: p.metrics.Transport(transport), Log: p.log}
	p.add(transport+" connections", func(ctx context.Context) error {
		<-ctx.Done()
		p.untilDrained(s.Shutdown)
		return nil
	})
	return s
}

// untilDrained gives something the drain time to end.
func (p *process) untilDrained(end func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Drain)
	defer cancel()
	end(ctx)
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
func (p *process) serveTransports(t *transports, api *http.ServeMux) error {
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
		if err := p.serveHTTP(o.name, o.port, mux); err != nil {
			return err
		}
	}
	l, err := p.listen("api", p.cfg.Ports.API)
	if err != nil {
		return err
	}
	p.serveHTTPOn("api", &tcp.Port{Listener: limited(l, p.cfg.Limits.Connections), Handler: t.tcp}, api)
	return nil
}
