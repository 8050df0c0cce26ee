// Package tcp is the TCP transport: newline-delimited JSON-RPC, both eras on one connection (package channel), on a
// port that HTTP shares. TCP has no headers, so a client's first message carries in params._meta what they would:
// its credential and, if it wants one, a view. Start at [Port].
package tcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/telemetry"
)

// Members of _meta that a client's first message may carry. They count for the whole connection and are not
// passed on.
const (
	// MetaAuthorization is "Bearer <API key or token>".
	MetaAuthorization = "dev.erlmcp/authorization"
	// MetaView is the name of a view or server; without it everything is served.
	MetaView = "dev.erlmcp/view"
)

// Handler serves TCP connections.
type Handler struct {
	Server *channel.Server
	Guard  *guard.Guard
	// Patience is how long a client may take for its first message, of at most 256 KiB, and for going on within any
	// message that it began; 30 s when 0.
	Patience time.Duration
}

// greet reads a client's first message and finds out who it is. What it returns serves the connection until it
// ends; it is nil where the client was refused.
func (h *Handler) greet(ctx context.Context, nc net.Conn) (serve func()) {
	patience := h.Patience
	if patience == 0 {
		patience = 30 * time.Second
	}
	limit := h.Guard.MaxBody
	if limit == 0 {
		limit = guard.DefaultMaxBody
	}
	c := newConn(nc, patience)
	first, err := c.firstLine(int(limit))
	if err != nil {
		c.refuse(nil, "send one JSON-RPC message a line; the first, which says who you are, of at most 256 KiB and within 30 s")
		return nil
	}
	m, _ := jsonrpc.Parse(first) // what is no message carries no credential; the channel says what is wrong with it
	bearer := bearer(m.Params)
	ctx, cancel := context.WithTimeout(ctx, patience)
	principal, err := h.Guard.Authenticator.Authenticate(ctx, bearer)
	cancel()
	switch {
	case errors.Is(err, access.ErrUnavailable):
		c.refuse(m.ID, "credentials can't be checked just now; try again shortly")
		return nil
	case err != nil:
		c.refuse(m.ID, `the first message needs a valid API key or token: params._meta["`+MetaAuthorization+`"] = "Bearer ..."`)
		return nil
	}
	client := engine.Client{Principal: principal, Transport: telemetry.TransportTCP}
	client.View, _ = jsonrpc.GetString(m.Params, "_meta", MetaView)
	if !h.Server.Engine.HasView(client.View) {
		c.refuse(m.ID, "no view or server has this name")
		return nil
	}
	if h.Guard.Places != nil && !h.Guard.Places.Enter(principal) {
		c.refuse(m.ID, guard.TooMany)
		return nil
	}
	c.again = first
	return func() {
		defer h.Guard.Leave(principal)
		h.Server.Serve(context.Background(), c, client, channel.Options{
			Authorized: func(ctx context.Context) bool { return h.Guard.Still(ctx, bearer, principal) },
		})
	}
}

// bearer reads the credential that a message carries; empty for none.
func bearer(params json.RawMessage) string {
	value, _ := jsonrpc.GetString(params, "_meta", MetaAuthorization)
	scheme, token, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// withoutOwn takes our own members out of a message's _meta: a credential must not reach any server.
func withoutOwn(message []byte) []byte {
	if !bytes.Contains(message, []byte(MetaAuthorization)) && !bytes.Contains(message, []byte(MetaView)) || jsonrpc.Check(message) != nil {
		return message
	}
	if elements, ok, _ := jsonrpc.Batch(message); ok {
		for i := range elements {
			elements[i] = withoutOwn(elements[i])
		}
		batch, err := json.Marshal(elements)
		if err != nil { // each is checked JSON
			return message
		}
		return batch
	}
	message = bytes.TrimSpace(message)
	message = jsonrpc.Without(message, "params", "_meta", MetaAuthorization)
	return jsonrpc.Without(message, "params", "_meta", MetaView)
}
