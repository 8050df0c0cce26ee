package mcphttp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// ear is a listener that keeps what it is told, and answers by a function.
type ear struct {
	mu    sync.Mutex
	heard []string
	told  chan string // gets each too, where not nil
	ask   func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error)
}

func (e *ear) Notification(method string, params json.RawMessage) {
	e.mu.Lock()
	e.heard = append(e.heard, method+" "+string(params))
	e.mu.Unlock()
	if e.told != nil {
		e.told <- method + " " + string(params)
	}
}

func (e *ear) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	if e.ask == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "nobody")
	}
	return e.ask(ctx, method, params)
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// site is a server over HTTP that counts its connections, and a transport of its own to it.
type site struct {
	*httptest.Server
	accepted  atomic.Int64
	transport *http.Transport
}

func serve(t *testing.T, handler http.Handler) *site {
	s := &site{Server: httptest.NewUnstartedServer(handler), transport: mcphttp.NewTransport()}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.accepted.Add(1)
		}
	}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		s.transport.CloseIdleConnections()
	})
	return s
}

func (s *site) config() mcphttp.Config {
	return mcphttp.Config{URL: s.URL + "/mcp", Transport: s.transport}
}

// post is what a server was sent.
type post struct {
	w       http.ResponseWriter
	r       *http.Request
	body    []byte
	id      string
	message jsonrpc.Message
}

// answer writes a JSON answer.
func (p *post) answer(format string, args ...any) {
	p.w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(p.w, format, args...)
}

// result writes a result.
func (p *post) result(result string) { p.answer(`{"jsonrpc":"2.0","id":%s,"result":%s}`, p.id, result) }

// event writes one event of a stream, and sends it on its way.
func (p *post) event(format string, args ...any) {
	if p.w.Header().Get("Content-Type") == "" {
		p.w.Header().Set("Content-Type", "text/event-stream")
	}
	_, _ = fmt.Fprintf(p.w, format+"\n\n", args...)
	_ = http.NewResponseController(p.w).Flush()
}

// script is a server made of one function for what is posted.
func script(t *testing.T, f func(*post)) *site {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p := &post{w: w, r: r, body: body}
		p.message, _ = jsonrpc.Parse(body)
		p.id = string(p.message.ID)
		f(p)
	}))
}

func newModern(t *testing.T, config mcphttp.Config) *mcphttp.Modern {
	t.Helper()
	m, err := mcphttp.NewModern(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// legacyScript is a legacy server with the session "s1"; f gets what comes after the handshake, GET and DELETE too.
func legacyScript(t *testing.T, f func(*post)) *site {
	return script(t, func(p *post) {
		switch {
		case p.message.Method == "initialize":
			p.w.Header().Set("Mcp-Session-Id", "s1")
			p.result(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`)
		case p.message.Method == "notifications/initialized":
			p.w.WriteHeader(http.StatusAccepted)
		case p.r.Method == http.MethodDelete:
			p.w.WriteHeader(http.StatusNoContent)
		default:
			f(p)
		}
	})
}

func initialize(t *testing.T, config mcphttp.LegacyConfig) *mcphttp.Legacy {
	t.Helper()
	if config.Version == "" {
		config.Version = "2025-11-25"
	}
	l, err := mcphttp.Initialize(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// noStream refuses the standing stream.
func noStream(p *post) bool {
	if p.r.Method == http.MethodGet {
		p.w.WriteHeader(http.StatusMethodNotAllowed)
		return true
	}
	return false
}

const modernParams = `{"name":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}`

func toolCall(params string) upstream.Request {
	return upstream.Request{Method: "tools/call", Params: json.RawMessage(params)}
}

type outcome struct {
	reply upstream.Reply
	err   error
}

func call(ctx context.Context, peer upstream.Peer, from upstream.Listener) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		reply, err := peer.Call(ctx, toolCall(modernParams), from)
		done <- outcome{reply, err}
	}()
	return done
}
