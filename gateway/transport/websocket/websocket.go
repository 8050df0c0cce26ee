// Package websocket is the WebSocket transport: each JSON-RPC message is one text frame, both eras on one
// connection (package channel). MCP has no WebSocket transport of its own; this follows its rules for custom ones
// and the one client there is, that of the TypeScript SDK. Start at [Handler.ServeHTTP].
package websocket

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/takeover"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/telemetry"
)

// Subprotocol is offered by clients that follow the TypeScript SDK. Clients that offer none are served too.
const Subprotocol = "mcp"

// SessionParameter is the query parameter that names the legacy session to come back to, for browsers, which can't
// send headers.
const SessionParameter = "session"

// BearerProtocol begins an offered subprotocol that is an API key or token: "bearer.<token>". It stands for the
// Authorization header, which browsers can't send. It is never the one that is chosen, so it is not sent back.
const BearerProtocol = "bearer."

// Handler serves /ws and /ws/{view}: mount it on both patterns, with the path value "view".
type Handler struct {
	Server *channel.Server
	Guard  *guard.Guard
	// Ping is how often a client is asked whether it is there; 15 s when 0.
	Ping time.Duration
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	offeredBearer(r.Header)
	principal, ok := h.Guard.Admit(w, r)
	if !ok || !h.Guard.Enter(w, principal) {
		return
	}
	serving := false
	defer func() {
		if !serving {
			h.Guard.Leave(principal)
		}
	}()
	client := engine.Client{Principal: principal, View: r.PathValue("view"), Transport: telemetry.TransportWebSocket}
	if !h.Server.Engine.HasView(client.View) {
		guard.Refuse(w, http.StatusNotFound, "no view or server has this name")
		return
	}
	if h.Server.Draining != nil && h.Server.Draining.Err() != nil {
		w.Header().Set("Retry-After", "1")
		guard.Refuse(w, http.StatusServiceUnavailable, channel.Draining.String())
		return
	}
	token := r.Header.Get(mcp.HeaderSession)
	if token == "" {
		token = r.URL.Query().Get(SessionParameter)
	}
	if token != "" && !h.known(w, r, client, token) {
		return
	}
	// The guard has looked at the origin.
	ws, err := websocket.Accept(takeover.Hijacker{ResponseWriter: w}, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	limit := h.Guard.MaxBody
	if limit == 0 {
		limit = guard.DefaultMaxBody
	}
	ws.SetReadLimit(limit)
	ping := h.Ping
	if ping == 0 {
		ping = 15 * time.Second
	}
	c := &conn{ws: ws}
	bearer, _ := access.Bearer(r.Header)
	options := channel.Options{
		Session:    token,
		Authorized: func(ctx context.Context) bool { return h.Guard.Still(ctx, bearer, principal) },
		KeepAlive:  c.keepAlive, KeepAliveEvery: ping,
	}
	ctx := context.WithoutCancel(r.Context())
	serving = true
	go func() { // the server waits for it; what the HTTP request has of memory is given back
		defer h.Guard.Leave(principal)
		h.Server.Serve(ctx, c, client, options)
	}()
}

// offeredBearer puts an offered credential where the others are. A header that a client did send counts alone.
func offeredBearer(h http.Header) {
	if h.Get("Authorization") != "" {
		return
	}
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), BearerProtocol); ok {
				h.Set("Authorization", "Bearer "+token)
				return
			}
		}
	}
}

// known checks the session that a client comes back to. Where it returns false the answer was written.
func (h *Handler) known(w http.ResponseWriter, r *http.Request, c engine.Client, token string) bool {
	_, err := h.Server.Engine.Session(r.Context(), c, token)
	switch {
	case err == nil:
		return true
	case errors.Is(err, engine.ErrNoSession):
		guard.Refuse(w, http.StatusNotFound, err.Error())
	default:
		w.Header().Set("Retry-After", "1")
		guard.Refuse(w, http.StatusServiceUnavailable, err.Error())
	}
	return false
}
