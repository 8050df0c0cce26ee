package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"erlmcp.dev/shared/sse"
	"erlmcp.dev/test/cluster"
)

// inbox passes on what a connection brings, until it breaks.
type inbox struct {
	messages chan []byte
	why      error // it ended; to be read once messages is closed
}

func newInbox() *inbox { return &inbox{messages: make(chan []byte, 1024)} }

func (in *inbox) received() <-chan []byte { return in.messages }

// untouched implements line: a connection's end says nothing, but that of a WebSocket.
func (in *inbox) untouched() bool { return websocket.CloseStatus(in.why) == websocket.StatusGoingAway }

// fill reads until next fails.
func (in *inbox) fill(next func() ([]byte, error)) {
	defer close(in.messages)
	for {
		message, err := next()
		if err != nil {
			in.why = err
			return
		}
		in.messages <- message
	}
}

// socket is a WebSocket connection.
type socket struct {
	*inbox
	ws *websocket.Conn
}

func (s socket) send(ctx context.Context, message []byte) error {
	return s.ws.Write(ctx, websocket.MessageText, message)
}

func (s socket) close() { _ = s.ws.CloseNow() }

// newSocket is a client of WebSocket behind the balancer.
func newSocket(c *cluster.Cluster, view, version string) *duplex {
	return &duplex{transport: "WebSocket", view: view, version: version, dial: func(ctx context.Context, _ string) (line, error) {
		ws, response, err := websocket.Dial(ctx, "ws://"+c.API.Address()+"/ws/"+view, nil)
		if err != nil {
			return nil, err
		}
		if response.Body != nil {
			_ = response.Body.Close()
		}
		s := socket{newInbox(), ws}
		go s.fill(func() ([]byte, error) {
			_, message, err := ws.Read(context.Background())
			return message, err
		})
		return s, nil
	}}
}

// wire is a TCP connection.
type wire struct {
	*inbox
	conn net.Conn
}

func (w wire) send(_ context.Context, message []byte) error {
	_, err := w.conn.Write(append(message, '\n'))
	return err
}

func (w wire) close() { _ = w.conn.Close() }

// newWire is a client of TCP. There is no balancer for it: like a client with several addresses it tries one after the
// other.
func newWire(c *cluster.Cluster, view, version string) *duplex {
	var turn atomic.Uint64
	return &duplex{transport: "TCP", view: view, version: version, first: fmt.Sprintf(`,"dev.erlmcp/view":%q`, view), dial: func(ctx context.Context, _ string) (line, error) {
		gateway := c.Gateways[turn.Add(1)%uint64(len(c.Gateways))]
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", cluster.Address(gateway.Ports.API))
		if err != nil {
			return nil, err
		}
		w := wire{newInbox(), conn}
		lines := bufio.NewReader(conn)
		go w.fill(func() ([]byte, error) { return lines.ReadBytes('\n') })
		return w, nil
	}}
}

// post is a stream of HTTP+SSE with the way back.
type post struct {
	*inbox
	http     *http.Client
	endpoint string
	stream   io.Closer
}

// send posts a message until a gateway takes it, or may have taken it.
func (p post) send(ctx context.Context, message []byte) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint, bytes.NewReader(message))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := p.http.Do(r)
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		_ = response.Body.Close()
		switch response.StatusCode {
		case http.StatusAccepted:
			return nil
		case http.StatusServiceUnavailable: // not taken
		case http.StatusBadGateway: // the balancer's own
			return fmt.Errorf("%w: %s", errBroken, response.Status)
		default:
			return fmt.Errorf("%s: %s", response.Status, text)
		}
		select {
		case <-time.After(50 * time.Millisecond): // as a client would
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p post) close() { _ = p.stream.Close() }

// newSSE is a client of HTTP+SSE behind the balancer.
func newSSE(c *cluster.Cluster, view, version string) *duplex {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	d := &duplex{transport: "HTTP+SSE", view: view, version: version, resumes: true}
	d.dial = func(ctx context.Context, token string) (line, error) {
		at := url.URL{Scheme: "http", Host: c.API.Address(), Path: "/sse/" + view}
		if token != "" {
			at.RawQuery = url.Values{"session": {token}}.Encode()
		}
		r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, at.String(), nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		events := sse.NewDecoder(response.Body, 1<<20)
		first, err := events.Next()
		if err != nil || response.StatusCode != http.StatusOK || first.Name != "endpoint" {
			_ = response.Body.Close()
			return nil, fmt.Errorf("%s: %q: %w", response.Status, first.Data, errors.Join(err, errBroken))
		}
		endpoint, err := at.Parse(string(first.Data))
		if err != nil {
			return nil, err
		}
		d.session = endpoint.Query().Get("session")
		p := post{newInbox(), client, endpoint.String(), response.Body}
		go p.fill(func() ([]byte, error) {
			for {
				e, err := events.Next()
				if err != nil || len(e.Data) > 0 {
					return e.Data, err
				}
			}
		})
		return p, nil
	}
	return d
}
