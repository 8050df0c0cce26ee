package mcphttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// inMemory is a legacy server without a network, so that hours pass at once: stream opens the n-th event stream that
// is asked for, posted answers a call.
type inMemory struct {
	stream func(n int, r *http.Request) (*http.Response, error)
	posted func() string

	mu    sync.Mutex
	times []time.Time // of the streams
}

func (s *inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.Method {
	case http.MethodGet:
		s.mu.Lock()
		s.times = append(s.times, time.Now())
		n := len(s.times)
		s.mu.Unlock()
		return s.stream(n, r)
	case http.MethodDelete:
		return reply(r, http.StatusNoContent, "", ""), nil
	}
	body, _ := io.ReadAll(r.Body)
	id := string(jsonrpc.Get(body, "id"))
	switch method, _ := jsonrpc.GetString(body, "method"); {
	case method == "initialize":
		response := reply(r, http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":`+id+`,"result":{"protocolVersion":"2025-11-25"}}`)
		response.Header.Set("Mcp-Session-Id", "s1")
		return response, nil
	case id != "":
		return reply(r, http.StatusOK, "text/event-stream", s.posted()), nil
	}
	return reply(r, http.StatusAccepted, "", ""), nil
}

// asked are the times between the streams that were asked for.
func (s *inMemory) asked() (gaps []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.times); i++ {
		gaps = append(gaps, s.times[i].Sub(s.times[i-1]))
	}
	return gaps
}

func reply(r *http.Request, status int, kind, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// held is an event stream that stays open for a time.
type held struct {
	ctx  context.Context
	time time.Duration
}

func (h held) Read([]byte) (int, error) {
	select {
	case <-time.After(h.time):
		return 0, io.EOF
	case <-h.ctx.Done():
		return 0, h.ctx.Err()
	}
}

func (held) Close() error { return nil }

func TestTheStandingStreamIsComeBackToLessOftenWhileItBringsNothing(t *testing.T) {
	broken := func(_ int, r *http.Request) (*http.Response, error) {
		return reply(r, http.StatusOK, "text/event-stream", "retry: 1\n\n"), nil
	}
	for name, test := range map[string]struct {
		stream   func(n int, r *http.Request) (*http.Response, error)
		min, max int // of the streams that are asked for in an hour
	}{
		"it ends at once":       {broken, 60, 200},
		"it can't be opened":    {func(int, *http.Request) (*http.Response, error) { return nil, errors.New("refused") }, 60, 200},
		"the server is too sad": {func(_ int, r *http.Request) (*http.Response, error) { return reply(r, 503, "", ""), nil }, 60, 200},
		"a proxy ends it each minute": {func(_ int, r *http.Request) (*http.Response, error) {
			response := reply(r, http.StatusOK, "text/event-stream", "")
			response.Body = held{r.Context(), time.Minute}
			return response, nil
		}, 58, 60}, // at once each time: what is told meanwhile would be missed
		"it brings something each time": {func(_ int, r *http.Request) (*http.Response, error) {
			return reply(r, http.StatusOK, "text/event-stream", "retry: 60000\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n"), nil
		}, 50, 121},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &inMemory{stream: test.stream}
				l, err := mcphttp.Initialize(t.Context(), mcphttp.LegacyConfig{
					Config: mcphttp.Config{URL: "http://in.memory/", Transport: s}, Version: "2025-11-25",
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // of the bubble's clock
				_ = l.Close()
				gaps := s.asked()
				if n := len(gaps) + 1; n < test.min || n > test.max {
					t.Errorf("%d streams in an hour, want %d to %d", n, test.min, test.max)
				}
				for _, gap := range gaps {
					if gap > 2*time.Minute {
						t.Errorf("not asked for %v", gap)
					}
				}
			})
		})
	}
}

// A tool may work for long while its server asks to be polled often (SEP-1699).
func TestACallIsPolledAsLongAsItsCallerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		s := &inMemory{
			posted: func() string { return "id: 1\nretry: 100\ndata:\n\n" },
			stream: func(_ int, r *http.Request) (*http.Response, error) {
				if time.Since(started) < time.Hour {
					return reply(r, http.StatusOK, "text/event-stream", ": working\n\n"), nil
				}
				return reply(r, http.StatusOK, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n"), nil
			},
		}
		l, err := mcphttp.Initialize(t.Context(), mcphttp.LegacyConfig{
			Config: mcphttp.Config{URL: "http://in.memory/", Transport: s}, Version: "2025-11-25", NoStream: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got, err := l.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(`{}`)}, nil)
		if err != nil || string(got.Result) != `{}` {
			t.Errorf("%s %v", got.Result, err)
		}
		if late := time.Since(started) - time.Hour; late > 2*time.Second {
			t.Errorf("the answer was heard %v late", late)
		}
		if n := len(s.asked()); n > 4000 {
			t.Errorf("%d polls in an hour", n)
		}
	})
}

func TestNothingIsPostedOnceTheConversationIsClosed(t *testing.T) {
	var closed bool
	s := legacyScript(t, func(p *post) {
		if closed {
			t.Errorf("%s was posted", p.message.Method)
		}
	})
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true})
	_ = l.Close()
	closed = true
	old := oldServer(t, endpoint, nil)
	peer := openSSE(t, mcphttp.LegacyConfig{Config: old.config()})
	_ = peer.Close()
	for name, p := range map[string]upstream.Peer{"legacy": l, "HTTP+SSE": peer} {
		if err := p.Notify(t.Context(), "n", nil); !errors.Is(err, upstream.ErrNotSent) || !errors.Is(err, upstream.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheServersOwnOriginMayBeSpeltOtherwise(t *testing.T) {
	for _, test := range []struct {
		url, endpoint string
		same          bool
	}{
		{"http://host.test/sse", "http://host.test:80/m", true},
		{"http://host.test:80/sse", "http://HOST.test/m", true},
		{"https://host.test/sse", "https://host.test:443/m", true},
		{"https://host.test/sse", "https://host.test:80/m", false},
		{"http://host.test/sse", "https://host.test:80/m", false},
		{"http://host.test/sse", "http://host.test.evil/m", false},
		{"http://host.test/sse", "http://host.test@evil.test/m", false},
	} {
		s := &sseInMemory{endpoint: test.endpoint}
		peer, err := mcphttp.OpenSSE(t.Context(), mcphttp.LegacyConfig{Config: mcphttp.Config{URL: test.url, Transport: s}, Version: "2024-11-05"})
		if test.same != (err == nil) || !test.same && !errors.Is(err, upstream.ErrRefused) {
			t.Errorf("%s named %s: %v", test.url, test.endpoint, err)
		}
		if !test.same && s.posts > 0 {
			t.Errorf("%s was posted to", test.endpoint)
		}
		if peer != nil {
			_ = peer.Close()
		}
	}
}

// sseInMemory is an HTTP+SSE server without a network.
type sseInMemory struct {
	endpoint string
	posts    int
	out      *io.PipeWriter
}

func (s *sseInMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		in, out := io.Pipe()
		s.out = out
		context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(r.Context().Err()) })
		go func() { _, _ = fmt.Fprintf(out, "event: endpoint\ndata: %s\n\n", s.endpoint) }()
		response := reply(r, http.StatusOK, "text/event-stream", "")
		response.Body = in
		return response, nil
	}
	s.posts++
	body, _ := io.ReadAll(r.Body)
	if id := jsonrpc.Get(body, "id"); id != nil {
		go func() {
			_, _ = fmt.Fprintf(s.out, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":\"2024-11-05\"}}\n\n", id)
		}()
	}
	return reply(r, http.StatusAccepted, "", ""), nil
}
