package mcphttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

func openSSE(t *testing.T, config mcphttp.LegacyConfig) *mcphttp.SSE {
	t.Helper()
	config.Version = "2024-11-05"
	s, err := mcphttp.OpenSSE(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAnHTTPAndSSEServerOfTheOfficialSDK(t *testing.T) {
	waiting, cancelled := make(chan struct{}), make(chan struct{})
	server := asker(waiting, cancelled)
	s := serve(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	peer := openSSE(t, mcphttp.LegacyConfig{Config: s.config(), Capabilities: json.RawMessage(abilities), Listener: &ear{ask: client}})
	if name, _ := jsonrpc.GetString(peer.Result(), "serverInfo", "name"); name != "asker" {
		t.Errorf("%s", peer.Result())
	}
	reply, err := peer.Call(t.Context(), named("ask"), nil)
	if err != nil || !strings.Contains(string(reply.Result), "m1 e1 file:///r1") {
		t.Errorf("%s %s %v", reply.Result, reply.Error, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	if _, err := peer.Call(ctx, named("wait"), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-cancelled
	s.CloseClientConnections()
	<-peer.Done()
	if _, err := peer.Call(t.Context(), named("ask"), nil); !errors.Is(err, upstream.ErrSessionGone) {
		t.Errorf("a call after the stream broke was surely not carried out: %v", err)
	}
}

// oldServer is an HTTP+SSE server made of functions: what is written on the stream first, and what a call brings.
func oldServer(t *testing.T, first func(*post), called func(p *post, stream chan<- string)) *site {
	stream := make(chan string, 10)
	return script(t, func(p *post) {
		switch {
		case p.r.Method == http.MethodGet:
			first(p)
			for {
				select {
				case e := <-stream:
					if e == "" {
						panic(http.ErrAbortHandler)
					}
					p.event("data: %s", e)
				case <-p.r.Context().Done():
					return
				}
			}
		case p.message.Method == "initialize":
			stream <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}`, p.id)
			p.w.WriteHeader(http.StatusAccepted)
		case p.message.Method == "tools/call":
			called(p, stream)
		default:
			p.w.WriteHeader(http.StatusAccepted)
		}
	})
}

func endpoint(p *post) { p.event("event: endpoint\ndata: /messages?s=1") }

func TestMessagesGoToTheServersOwnOriginOnly(t *testing.T) {
	for _, where := range []string{"http://evil.example/messages", "//evil.example/x", "https://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "mailto:x"} {
		s := oldServer(t, func(p *post) { p.event("event: endpoint\ndata: %s", where) }, nil)
		if _, err := mcphttp.OpenSSE(t.Context(), mcphttp.LegacyConfig{Config: s.config()}); !errors.Is(err, upstream.ErrRefused) {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestWhatComesBeforeTheEndpointIsPassedOver(t *testing.T) {
	s := oldServer(t, func(p *post) {
		p.event(`data: {"jsonrpc":"2.0","id":1,"method":"ping"}`)
		p.event(`data: {"jsonrpc":"2.0","id":2,"method":"roots/list"}`)
		endpoint(p)
	}, func(p *post, stream chan<- string) {
		stream <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{}}`, p.id)
	})
	if _, err := openSSE(t, mcphttp.LegacyConfig{Config: s.config(), Listener: &ear{ask: client}}).Call(t.Context(), named("x"), nil); err != nil {
		t.Error(err)
	}
}

func TestAStreamThatNeverNamesItsEndpointEndsWithTheContext(t *testing.T) {
	opened := make(chan struct{})
	s := oldServer(t, func(p *post) { p.event(": hello"); close(opened) }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-opened; cancel() }()
	if _, err := mcphttp.OpenSSE(ctx, mcphttp.LegacyConfig{Config: s.config()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFailuresOfAnHTTPAndSSECall(t *testing.T) {
	for name, test := range map[string]struct {
		called func(p *post, stream chan<- string)
		want   error
	}{
		"the post is refused":       {func(p *post, _ chan<- string) { p.w.WriteHeader(http.StatusBadRequest) }, upstream.ErrRefused},
		"the stream breaks":         {func(_ *post, stream chan<- string) { stream <- "" }, upstream.ErrLost},
		"garbage comes":             {func(_ *post, stream chan<- string) { stream <- "{{{" }, upstream.ErrRefused},
		"much comes":                {func(_ *post, stream chan<- string) { stream <- strings.Repeat("x", 100_000) }, upstream.ErrTooLarge},
		"it breaks during the post": {func(p *post, stream chan<- string) { stream <- ""; <-p.r.Context().Done() }, upstream.ErrLost},
	} {
		t.Run(name, func(t *testing.T) {
			s := oldServer(t, endpoint, test.called)
			config := s.config()
			config.MaxMessage = 50_000
			peer := openSSE(t, mcphttp.LegacyConfig{Config: config})
			if _, err := peer.Call(t.Context(), named("x"), nil); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestCloseEndsHTTPAndSSECallsEvenInTheirPost(t *testing.T) {
	arrived := make(chan struct{})
	s := oldServer(t, endpoint, func(p *post, _ chan<- string) {
		close(arrived)
		<-p.r.Context().Done()
	})
	peer := openSSE(t, mcphttp.LegacyConfig{Config: s.config()})
	done := call(t.Context(), peer, nil)
	<-arrived
	_ = peer.Close()
	if got := <-done; !errors.Is(got.err, upstream.ErrClosed) {
		t.Error(got.err)
	}
}
