package transports

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/stdio"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
)

// wire carries a client's messages over one transport.
type wire interface {
	send(message string) error
	// receive returns the next message, or an error once there is none.
	receive() ([]byte, error)
	// drop breaks the connection, as a network would.
	drop()
	close()
}

// way is one transport.
type way struct {
	name     string
	versions []string // legacy revisions that it has
	modern   bool
	duplex   bool // one connection carries everything
	// dial connects; a session's token takes up that session where the transport names it when connecting.
	dial func(t *testing.T, at address, token string) wire
}

// address is where an erlmcp is reached.
type address struct {
	api  []string // host:port of gateways that have every transport; requests that may go to any go to them in turn
	view string   // empty for everything
	// stdio connects to one that serves standard streams.
	stdio func(t *testing.T) wire
}

// path puts the view behind the path of a transport.
func (a address) path(transport string) string {
	if a.view == "" {
		return transport
	}
	return transport + "/" + a.view
}

// at is where the site is reached.
func (s *site) at() address {
	var a address
	for _, g := range s.gateways {
		a.api = append(a.api, g.api)
	}
	a.stdio = func(t *testing.T) wire {
		client := engine.Client{Principal: access.Principal{ID: "anonymous"}, Transport: "stdio"}
		return piped(t, func(ctx context.Context, in io.Reader, out io.Writer) {
			stdio.Serve(ctx, s.gateways[0].stdio, client, in, out, 1<<20)
		})
	}
	return a
}

var allLegacy = []string{mcp.V2024_11_05, mcp.V2025_03_26, mcp.V2025_06_18, mcp.V2025_11_25}

var ways = []way{
	{"http", allLegacy, true, false, dialHTTP},
	{"websocket", allLegacy, true, true, dialWebSocket},
	{"tcp", allLegacy, true, true, dialTCP},
	{"stdio", allLegacy, true, true, dialStdio},
	{"sse", allLegacy, false, false, dialSSE},
}

// frames is a wire over two streams of lines.
type frames struct {
	in    *bufio.Reader
	out   io.Writer
	ended func()
}

func (f *frames) send(message string) error {
	_, err := io.WriteString(f.out, message+"\n")
	return err
}

func (f *frames) receive() ([]byte, error) { return f.in.ReadBytes('\n') }
func (f *frames) drop()                    { f.ended() }
func (f *frames) close()                   { f.ended() }

// dialHTTP speaks Streamable HTTP through the bridge of `erlmcp stdio --connect`.
func dialHTTP(t *testing.T, at address, _ string) wire {
	transport := &http.Transport{}
	bridge := &stdio.Bridge{URL: "http://" + at.api[0] + at.path("/mcp"), Client: &http.Client{Transport: transport}}
	return piped(t, func(ctx context.Context, in io.Reader, out io.Writer) {
		_ = bridge.Run(ctx, in, out)
		transport.CloseIdleConnections()
	})
}

func dialStdio(t *testing.T, at address, _ string) wire { return at.stdio(t) }

// piped runs something that speaks lines on two streams.
func piped(t *testing.T, serve func(ctx context.Context, in io.Reader, out io.Writer)) wire {
	theirIn, ourOut := io.Pipe()
	ourIn, theirOut := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		serve(ctx, theirIn, theirOut)
		_ = theirOut.Close()
		_ = theirIn.Close()
	})
	end := sync.OnceFunc(func() {
		_ = ourOut.Close()
		go func() { _, _ = io.Copy(io.Discard, ourIn) }()
		ended := make(chan struct{})
		go func() { running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("it goes on although its input ended")
		}
		cancel()
		running.Wait()
		_ = ourIn.Close()
	})
	t.Cleanup(end)
	return &frames{bufio.NewReader(ourIn), ourOut, end}
}

func dialTCP(t *testing.T, at address, _ string) wire {
	c, err := net.Dial("tcp", at.api[0])
	must(t, err)
	end := func() { _ = c.Close() }
	t.Cleanup(end)
	return &frames{bufio.NewReader(c), c, end}
}

// socket is a WebSocket.
type socket struct {
	ws   *ws.Conn
	once sync.Once
}

func (c *socket) send(message string) error {
	return c.ws.Write(context.Background(), ws.MessageText, []byte(message))
}

func (c *socket) receive() ([]byte, error) {
	_, message, err := c.ws.Read(context.Background())
	return message, err
}
func (c *socket) drop()  { c.once.Do(func() { _ = c.ws.CloseNow() }) }
func (c *socket) close() { c.once.Do(func() { _ = c.ws.Close(ws.StatusNormalClosure, "") }) }

func dialWebSocket(t *testing.T, at address, token string) wire {
	url := "ws://" + at.api[0] + at.path("/ws")
	if token != "" {
		url += "?session=" + token
	}
	c, _, err := ws.Dial(t.Context(), url, &ws.DialOptions{Subprotocols: []string{"mcp"}})
	must(t, err)
	c.SetReadLimit(64 << 20)
	w := &socket{ws: c}
	t.Cleanup(w.drop)
	return w
}

// stream is HTTP+SSE. Messages are posted to the gateways in turn.
type stream struct {
	client    *http.Client
	endpoints []string
	token     string // of the session, from the endpoint
	posted    int
	events    *sse.Decoder
	end       func()
}

func dialSSE(t *testing.T, at address, token string) wire {
	transport := &http.Transport{}
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.api[0]+at.path("/sse")+query(token), nil)
	must(t, err)
	w := &stream{client: &http.Client{Transport: transport}}
	response, err := w.client.Do(r)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET /sse: %s", response.Status)
	}
	w.end = sync.OnceFunc(func() {
		cancel()
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	})
	t.Cleanup(w.end)
	w.events = sse.NewDecoder(response.Body, 64<<20)
	first, err := w.events.Next()
	must(t, err)
	if first.Name != "endpoint" || !strings.HasPrefix(string(first.Data), at.path("/messages")+"?session=") {
		t.Fatalf("the first event is %s: %s", first.Name, first.Data)
	}
	_, w.token, _ = strings.Cut(string(first.Data), "?session=")
	for _, api := range at.api {
		w.endpoints = append(w.endpoints, "http://"+api+string(first.Data))
	}
	return w
}

// query names the session to come back to.
func query(token string) string {
	if token == "" {
		return ""
	}
	return "?session=" + token
}

func (w *stream) send(message string) error {
	endpoint := w.endpoints[w.posted%len(w.endpoints)]
	w.posted++
	response, err := w.client.Post(endpoint, "application/json", bytes.NewReader([]byte(message)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST: %s", response.Status)
	}
	return nil
}

func (w *stream) receive() ([]byte, error) {
	e, err := w.events.Next()
	if err == nil && e.Name != "message" {
		err = errors.New("an event of type " + e.Name)
	}
	return e.Data, err
}
func (w *stream) drop()  { w.end() }
func (w *stream) close() { w.end() }
