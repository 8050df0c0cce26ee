// Package transport is what transports have in common: the way in which they are counted, and what they do every while.
package transport

import (
	"context"
	"net"
	"sync/atomic"
)

// Counter counts what goes over a transport.
type Counter interface {
	// Connected counts a connection that was accepted.
	Connected()
	// Sent and Received count JSON-RPC messages to and from clients. A batch is one.
	Sent()
	Received()
}

// Uncounted counts nothing.
type Uncounted struct{}

// Connected implements Counter.
func (Uncounted) Connected() {}

// Sent implements Counter.
func (Uncounted) Sent() {}

// Received implements Counter.
func (Uncounted) Received() {}

type connectionKey struct{}

// ConnContext is for http.Server: with it, First works.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(atomic.Bool))
}

// First reports, once for each HTTP connection, that a request is the first that asks.
func First(ctx context.Context) bool {
	asked, ok := ctx.Value(connectionKey{}).(*atomic.Bool)
	return ok && !asked.Swap(true)
}
