package limit

import (
	"io"
	"net"
	"sync"
	"time"

	"erlmcp.dev/shared/access"
)

// Connections bounds how many connections are open at once, of all clients and of each principal. It is safe for
// concurrent use; its fields must not change once it is used.
type Connections struct {
	// Most is how many may be open over all its listeners; no limit when 0.
	Most int
	// PerPrincipal is how many one principal may have, each HTTP request that is being answered counted as one; no
	// limit when 0. Whoever is not authenticated is no principal, and has no such limit.
	PerPrincipal int
	// Refused is called for each connection that found no room. Optional; must not block.
	Refused func()

	mu       sync.Mutex
	open     int
	refusing int
	of       map[string]int
}

// Enter takes a place for a principal's connection. False means that it has none left; else Leave gives it back.
func (c *Connections) Enter(p access.Principal) bool {
	if c.PerPrincipal <= 0 || p.Method == access.MethodAnonymous {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[p.ID] >= c.PerPrincipal {
		return false
	}
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[p.ID]++
	return true
}

// Leave gives back a place that Enter gave.
func (c *Connections) Leave(p access.Principal) {
	if c.PerPrincipal <= 0 || p.Method == access.MethodAnonymous {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[p.ID]--; c.of[p.ID] <= 0 {
		delete(c.of, p.ID)
	}
}

// Listener bounds what a listener accepts. A connection without room is told so at once, in HTTP where plain says that
// the port speaks it without TLS, and closed: a balancer can turn to another gateway, where waiting would end in a
// time-out.
func (c *Connections) Listener(l net.Listener, plain bool) net.Listener {
	return &listener{Listener: l, connections: c, plain: plain}
}

type listener struct {
	net.Listener
	connections *Connections
	plain       bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.connections.take() {
			return &counted{Conn: conn, left: sync.OnceFunc(l.connections.give)}, nil
		}
		l.connections.refuse(conn, l.plain)
	}
}

func (c *Connections) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Most > 0 && c.open >= c.Most {
		return false
	}
	c.open++
	return true
}

func (c *Connections) give() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

const (
	// maxRefusing is how many clients are told at once that there is no room; more are cut off without a word.
	maxRefusing = 64
	// refuseTime is how long that may take.
	refuseTime = time.Second
)

const noRoom = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 125\r\n\r\n" +
	`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"too many connections are open; try again shortly or elsewhere"}}`

func (c *Connections) refuse(conn net.Conn, plain bool) {
	if c.Refused != nil {
		c.Refused()
	}
	c.mu.Lock()
	tell := plain && c.refusing < maxRefusing
	if tell {
		c.refusing++
	}
	c.mu.Unlock()
	if !tell {
		_ = conn.Close()
		return
	}
	go func() {
		defer func() {
			_ = conn.Close()
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refusing--
		}()
		_ = conn.SetDeadline(time.Now().Add(refuseTime))
		if _, err := io.WriteString(conn, noRoom); err != nil {
			return
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		// Closing before the client's request was read would reset the connection, and the client would see no answer.
		_, _ = io.CopyN(io.Discard, conn, 64<<10)
	}()
}

// counted is a connection that gives its place back.
type counted struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.left()
	return c.Conn.Close()
}

// CloseWrite ends this side's half of the connection.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
