package mcphttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// asker is a server with the tools that need a client: "ask" asks everything, "poll" closes its stream and goes on
// (SEP-1699), "wait" waits for its cancellation.
func asker(waiting, cancelled chan struct{}) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "asker", Version: "1"}, nil)
	object := json.RawMessage(`{"type":"object"}`)
	server.AddTool(&mcp.Tool{Name: "ask", InputSchema: object}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		sampled, err := r.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 1})
		if err != nil {
			return nil, err
		}
		elicited, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"string"}}}`)})
		if err != nil {
			return nil, err
		}
		roots, err := r.Session.ListRoots(ctx, nil)
		if err != nil {
			return nil, err
		}
		if err := r.Session.Ping(ctx, nil); err != nil {
			return nil, err
		}
		text := fmt.Sprintf("%s %v %s", sampled.Model, elicited.Content["a"], roots.Roots[0].URI)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil
	})
	server.AddTool(&mcp.Tool{Name: "poll", InputSchema: object}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 3 {
			r.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)}); err != nil {
				return nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "polled"}}}, nil
	})
	server.AddTool(&mcp.Tool{Name: "wait", InputSchema: object}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		close(waiting)
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	})
	return server
}

// client answers what asker asks.
func client(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	switch method {
	case "sampling/createMessage":
		return json.RawMessage(`{"role":"assistant","model":"m1","content":{"type":"text","text":"x"}}`), nil
	case "elicitation/create":
		return json.RawMessage(`{"action":"accept","content":{"a":"e1"}}`), nil
	case "roots/list":
		return json.RawMessage(`{"roots":[{"uri":"file:///r1"}]}`), nil
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no %s", method)
}

const abilities = `{"sampling":{},"elicitation":{},"roots":{}}`

func named(tool string) upstream.Request {
	return toolCall(`{"name":"` + tool + `","arguments":{},"_meta":{"progressToken":"mine"}}`)
}

func TestALegacyServerOfTheOfficialSDK(t *testing.T) {
	waiting, cancelled := make(chan struct{}), make(chan struct{})
	server := asker(waiting, cancelled)
	s := serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}))
	standing := &ear{told: make(chan string, 10)}
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), Capabilities: json.RawMessage(abilities), Listener: standing})
	if l.SessionID() == "" || l.Version() != "2025-11-25" {
		t.Errorf("session %q, version %q", l.SessionID(), l.Version())
	}

	t.Run("asks during a call", func(t *testing.T) {
		reply, err := l.Call(t.Context(), named("ask"), &ear{ask: client})
		if err != nil || !strings.Contains(string(reply.Result), "m1 e1 file:///r1") {
			t.Errorf("%s %s %v", reply.Result, reply.Error, err)
		}
	})
	t.Run("closes the stream and is polled", func(t *testing.T) {
		e := &ear{}
		reply, err := l.Call(t.Context(), named("poll"), e)
		if err != nil || !strings.Contains(string(reply.Result), "polled") {
			t.Errorf("%s %s %v", reply.Result, reply.Error, err)
		}
		if heard := e.all(); len(heard) != 3 || !strings.Contains(heard[2], `"progressToken":"mine"`) {
			t.Errorf("heard %q", heard)
		}
	})
	t.Run("is told of a cancellation", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-waiting; cancel() }()
		if _, err := l.Call(ctx, named("wait"), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-cancelled
	})
	t.Run("tells of changes on the standing stream", func(t *testing.T) {
		server.AddTool(&mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil })
		for heard := range standing.told {
			if strings.HasPrefix(heard, "notifications/tools/list_changed") {
				break
			}
		}
	})
	t.Run("is continued by another process", func(t *testing.T) {
		other, err := mcphttp.Resume(mcphttp.LegacyConfig{Config: s.config(), SessionID: l.SessionID(), Version: l.Version(), NoStream: true})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := other.Call(t.Context(), upstream.Request{Method: "tools/list", Params: json.RawMessage(`{}`)}, nil)
		if err != nil || reply.Result == nil {
			t.Errorf("%s %v", reply.Error, err)
		}
		_ = other.Close() // and with it the session
		if _, err := l.Call(t.Context(), named("poll"), nil); !errors.Is(err, upstream.ErrSessionGone) {
			t.Errorf("the session was ended: %v", err)
		}
	})
}

func TestASessionlessLegacyServer(t *testing.T) {
	server := asker(nil, nil)
	s := serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config()})
	reply, err := l.Call(t.Context(), upstream.Request{Method: "tools/list", Params: json.RawMessage(`{}`)}, nil)
	if err != nil || l.SessionID() != "" || !strings.Contains(string(reply.Result), `"ask"`) {
		t.Errorf("%s %v", reply.Result, err)
	}
	<-l.Silent() // there is nothing to hear
}

func TestASessionThatIsGoneIsToldApart(t *testing.T) {
	s := legacyScript(t, func(p *post) {
		if !noStream(p) {
			http.Error(p.w, "session not found", http.StatusNotFound)
		}
	})
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config()})
	if _, err := l.Call(t.Context(), named("x"), nil); !errors.Is(err, upstream.ErrSessionGone) {
		t.Error(err)
	}
	if err := l.Notify(t.Context(), "n", nil); !errors.Is(err, upstream.ErrSessionGone) {
		t.Error(err)
	}
}

// Whatever becomes of the attempts to hear the rest, a call whose stream broke was sent: saying otherwise would have
// it carried out twice.
func TestARestartDuringACallLosesItsAnswer(t *testing.T) {
	for name, later := range map[string]func(*post){
		"it forgot the session": func(p *post) { http.NotFound(p.w, p.r) },
		"it can't resume":       func(p *post) { p.w.WriteHeader(http.StatusMethodNotAllowed) },
		"it breaks":             func(*post) { panic(http.ErrAbortHandler) },
		"nothing":               nil,
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"id: 7\n", ""} {
				var s *site
				down := make(chan struct{})
				s = legacyScript(t, func(p *post) {
					if p.r.Method == http.MethodGet {
						later(p)
						return
					}
					p.event("%sretry: 10\ndata:", id)
					if later == nil {
						close(down)
					}
					panic(http.ErrAbortHandler)
				})
				if later == nil {
					go func() { <-down; s.CloseClientConnections(); _ = s.Listener.Close() }()
				}
				l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true})
				_, err := l.Call(t.Context(), named("x"), nil)
				if !errors.Is(err, upstream.ErrLost) || errors.Is(err, upstream.ErrNotSent) || errors.Is(err, upstream.ErrSessionGone) {
					t.Errorf("with %q: %v", id, err)
				}
			}
		})
	}
}

// A server that is frozen must not hold a caller beyond its time, and one that listens is told which call to end.
func TestEndingTheContextEndsALegacyCallAtOnce(t *testing.T) {
	wire, told, free := make(chan string, 1), make(chan string, 1), make(chan struct{})
	s := legacyScript(t, func(p *post) {
		if p.message.Method == "notifications/cancelled" {
			told <- string(jsonrpc.Get(p.message.Params, "requestId"))
		} else {
			wire <- p.id
		}
		select {
		case <-p.r.Context().Done():
		case <-free:
		}
	})
	defer close(free)
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := call(ctx, l, nil)
	id := <-wire
	why := errors.New("the client left")
	cancel(why)
	if got := <-done; !errors.Is(got.err, why) { // though the cancellation is not taken
		t.Error(got.err)
	}
	if got := <-told; got != id {
		t.Errorf("call %s went out, %s was cancelled", id, got)
	}
}

func TestTheStandingStreamIsHeard(t *testing.T) {
	posted, token := make(chan *post, 10), make(chan string, 1)
	release := make(chan struct{})
	s := legacyScript(t, func(p *post) {
		switch {
		case p.r.Method == http.MethodGet:
			p.event(": open")
			p.event(`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, <-token)
			p.event(`data: {"jsonrpc":"2.0","id":"ping-1","method":"ping"}`)
			p.event(`data: {"jsonrpc":"2.0","id":"q-1","method":"roots/list"}`)
			<-p.r.Context().Done()
		case p.message.Method == "tools/call":
			token <- string(jsonrpc.Get(p.message.Params, "_meta", "progressToken"))
			<-release
			p.result(`{}`)
		default:
			posted <- p
			p.w.WriteHeader(http.StatusAccepted)
		}
	})
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), Listener: &ear{ask: client}})
	e := &ear{told: make(chan string, 1)}
	done := make(chan outcome, 1)
	go func() {
		reply, err := l.Call(t.Context(), named("x"), e)
		done <- outcome{reply, err}
	}()
	if got := <-e.told; got != `notifications/progress {"progressToken":"mine","progress":1}` {
		t.Error(got)
	}
	answers := map[string]string{}
	for range 2 {
		p := <-posted
		answers[p.id] = string(p.message.Result)
		if p.r.Header.Get("Mcp-Session-Id") != "s1" || p.r.Header.Get("Mcp-Protocol-Version") != "2025-11-25" {
			t.Errorf("%q", p.r.Header)
		}
	}
	if answers[`"ping-1"`] != `{}` || !strings.Contains(answers[`"q-1"`], "file:///r1") {
		t.Errorf("%q", answers)
	}
	close(release)
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
}

func TestTheStandingStreamIsComeBackTo(t *testing.T) {
	var opened atomic.Int64
	after := make(chan string, 10)
	s := legacyScript(t, func(p *post) {
		after <- p.r.Header.Get("Last-Event-Id")
		switch opened.Add(1) {
		case 1:
			p.event("id: e1\nretry: 1\ndata:")
		case 2:
			p.w.WriteHeader(http.StatusBadRequest) // it keeps no events
		case 3:
			p.event("id: e2\ndata:")
		default:
			http.NotFound(p.w, p.r) // the session is over
		}
	})
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config()})
	<-l.Silent()
	for _, want := range []string{"", "e1", "", "e2"} {
		if got := <-after; got != want {
			t.Errorf("came back behind %q, want %q", got, want)
		}
	}
}

func TestBatchesOfAnOldServerAreRead(t *testing.T) {
	s := legacyScript(t, func(p *post) {
		p.answer(`[{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":%s,"result":{"n":1}}]`, p.id)
	})
	e := &ear{}
	reply, err := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true}).Call(t.Context(), named("x"), e)
	if err != nil || string(reply.Result) != `{"n":1}` || len(e.all()) != 1 {
		t.Errorf("%s %v %q", reply.Result, err, e.all())
	}
}

func TestCloseEndsLegacyCallsAndTheSession(t *testing.T) {
	arrived, deleted := make(chan struct{}), make(chan string, 1)
	s := script(t, func(p *post) {
		switch {
		case p.message.Method == "initialize":
			p.w.Header().Set("Mcp-Session-Id", "s1")
			p.event(`data: {"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18"}}`, p.id)
		case p.r.Method == http.MethodDelete:
			deleted <- p.r.Header.Get("Mcp-Session-Id") + " " + p.r.Header.Get("Mcp-Protocol-Version")
		case p.message.Method == "tools/call":
			p.event(`data: {"jsonrpc":"2.0","id":1,"method":"elicitation/create"}`)
			<-p.r.Context().Done()
		default:
			p.w.WriteHeader(http.StatusAccepted)
		}
	})
	l := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true})
	done := call(t.Context(), l, &ear{ask: func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
		close(arrived)
		<-ctx.Done()
		return nil, jsonrpc.Errorf(-1, "closed")
	}})
	<-arrived
	_ = l.Close()
	if got := <-done; !errors.Is(got.err, upstream.ErrClosed) {
		t.Error(got.err)
	}
	if got := <-deleted; got != "s1 2025-06-18" {
		t.Error(got)
	}
}

func TestAHandshakeThatFailsLeavesNoSession(t *testing.T) {
	for name, test := range map[string]struct{ version, initialized string }{
		"a revision that is not known": {"1999-01-01", "202"},
		"initialized is refused":       {"2025-11-25", "500"},
	} {
		deleted := make(chan struct{}, 1)
		s := script(t, func(p *post) {
			switch {
			case p.message.Method == "initialize":
				p.w.Header().Set("Mcp-Session-Id", "s1")
				p.result(`{"protocolVersion":"` + test.version + `"}`)
			case p.r.Method == http.MethodDelete:
				deleted <- struct{}{}
			case test.initialized == "500":
				p.w.WriteHeader(http.StatusInternalServerError)
			}
		})
		_, err := mcphttp.Initialize(t.Context(), mcphttp.LegacyConfig{Config: s.config()})
		if !errors.Is(err, upstream.ErrRefused) || len(deleted) != 1 {
			t.Errorf("%s: %v, %d sessions ended", name, err, len(deleted))
		}
	}
}
