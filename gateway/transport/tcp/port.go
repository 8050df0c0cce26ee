package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Port is a listener that shares its port between HTTP and this transport: a connection whose first byte opens a
// JSON object is served by Handler, and every other one is returned by Accept, for an http.Server.
type Port struct {
	net.Listener
	Handler *Handler
	// Patience is how long a client may take to send its first byte; 10 s when 0.
	Patience time.Duration

	start  sync.Once
	http   chan net.Conn
	failed chan error
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

func (p *Port) begin() {
	p.start.Do(func() {
		if p.Patience == 0 {
			p.Patience = 10 * time.Second
		}
		p.http, p.failed = make(chan net.Conn), make(chan error, 1)
		p.ctx, p.cancel = context.WithCancel(context.Background())
		p.tasks.Go(p.accept)
	})
}

// Accept implements net.Listener.
func (p *Port) Accept() (net.Conn, error) {
	p.begin()
	select {
	case c := <-p.http:
		return c, nil
	case err := <-p.failed:
		return nil, err
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections of this transport that are being served go on.
func (p *Port) Close() error {
	p.begin()
	err := p.Listener.Close()
	p.cancel()
	p.tasks.Wait()
	return err
}

// accept tells connections apart, each in a goroutine of its own: one that sends nothing holds up no other.
func (p *Port) accept() {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // http.Server waits and calls Accept again where that is of use
			case p.failed <- err:
			case <-p.ctx.Done():
				return
			}
			continue
		}
		p.tasks.Add(1)
		go p.tell(c)
	}
}

// tell looks at a connection's first bytes. What follows is waited for elsewhere: by the http.Server, or by the
// channel server's Shutdown.
func (p *Port) tell(c net.Conn) {
	serve := p.told(c)
	p.tasks.Done()
	if serve != nil {
		serve()
	}
}

func (p *Port) told(c net.Conn) (serve func()) {
	stop := context.AfterFunc(p.ctx, func() { _ = c.Close() })
	defer stop()
	first := make([]byte, 512)
	_ = c.SetReadDeadline(time.Now().Add(p.Patience))
	n, err := c.Read(first)
	if err != nil || n == 0 {
		plainText(err)
		_ = c.Close()
		return nil
	}
	_ = c.SetReadDeadline(time.Time{})
	seen := &seen{Conn: c, first: first[:n]}
	if first[0] == '{' {
		return p.Handler.greet(p.ctx, seen)
	}
	stop()
	select {
	case p.http <- seen:
	case <-p.ctx.Done():
		_ = c.Close()
	}
	return nil
}

// plainText tells a client that speaks plain HTTP to a TLS listener what is wrong.
func plainText(err error) {
	var told tls.RecordHeaderError
	if errors.As(err, &told) && told.Conn != nil {
		_, _ = io.WriteString(told.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis port speaks TLS: use https.\n")
	}
}

// CloseWrite ends this side's half of the connection.
func (s *seen) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// seen is a connection whose first bytes were read already.
type seen struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (s *seen) Read(p []byte) (int, error) {
	if len(s.first) == 0 {
		return s.Conn.Read(p)
	}
	n := copy(p, s.first)
	if s.first = s.first[n:]; len(s.first) == 0 {
		s.first = nil
	}
	return n, nil
}
