package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// memoir is a server that keeps sessions and the events of its answers.
type memoir struct {
	server *sdk.Server
	step   chan struct{} // lets a call of "count" go on
	counts atomic.Int32  // calls of "count"
	told   sync.Map      // "<session> <method> <what>" of log levels and subscriptions
	deaf   atomic.Bool   // it takes no answers
	missed chan struct{} // tells of one that it does not take
}

func newMemoir(t *testing.T) (*memoir, *registryv1.Server) {
	m := &memoir{step: make(chan struct{}), missed: make(chan struct{}, 10)}
	m.server = sdk.NewServer(&sdk.Implementation{Name: "memoir", Version: "1"}, &sdk.ServerOptions{
		SupportedProtocolVersions: []string{"2025-11-25", "2025-06-18"},
		SubscribeHandler:          func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler:        func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	m.server.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
			switch p := req.GetParams().(type) {
			case *sdk.SetLoggingLevelParams:
				m.told.Store(fmt.Sprint(req.GetSession().ID(), " ", method, " ", p.Level), true)
			case *sdk.SubscribeParams:
				m.told.Store(fmt.Sprint(req.GetSession().ID(), " ", method, " ", p.URI), true)
			}
			return next(ctx, method, req)
		}
	})
	m.server.AddResource(&sdk.Resource{URI: memoirURI, Name: "diary"}, func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: memoirURI, Text: "dear diary"}}}, nil
	})
	schema := json.RawMessage(`{"type":"object"}`)
	m.server.AddTool(&sdk.Tool{Name: "who", InputSchema: schema}, func(_ context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return said(req.Session.ID()), nil
	})
	m.server.AddTool(&sdk.Tool{Name: "count", InputSchema: schema}, m.count)
	m.server.AddTool(&sdk.Tool{Name: "ask", InputSchema: schema}, func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		var args struct{ More int }
		_ = json.Unmarshal(req.Params.Arguments, &args) // there need not be any
		names := "hello"
		for range 1 + args.More {
			answer, err := req.Session.Elicit(ctx, &sdk.ElicitParams{Message: "your name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)})
			if err != nil {
				return nil, err
			}
			names += fmt.Sprint(" ", answer.Content["name"])
		}
		return said(names), nil
	})
	return m, spoken(t, "memoir", m.server, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)}, m.hear)
}

// hear keeps answers from the server, while it is deaf, until whoever brings them goes away.
func (m *memoir) hear(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && m.deaf.Load() {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if message, err := jsonrpc.Parse(body); err == nil && message.IsResponse() {
				m.missed <- struct{}{}
				<-r.Context().Done()
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

const memoirURI = "memoir://diary"

func said(text string) *sdk.CallToolResult {
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}
}

// count reports a step whenever it may.
func (m *memoir) count(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	n := m.counts.Add(1)
	for i := range 6 {
		select {
		case <-m.step:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)}); err != nil {
			return nil, err
		}
	}
	return said(fmt.Sprint("counted for the ", n, ". time")), nil
}

func (m *memoir) sessions() (n int) {
	for range m.server.Sessions() {
		n++
	}
	return n
}

// waysToGo are how an owner leaves its sessions to another one.
var waysToGo = map[string]func(*site, *ownerNode){
	"stops": func(_ *site, n *ownerNode) { n.stop() },
	"is frozen": func(s *site, n *ownerNode) {
		n.lease.freeze(true)
		n.wire.cut()
		testkit.Eventually(s.t, func() bool { return s.owners[1].Sessions() == 1 }, patience)
		n.lease.freeze(false)
	},
}

// onEachWay runs a test with each. leave makes the first owner leave, and returns what waits until it has.
func onEachWay(t *testing.T, test func(t *testing.T, s *site, m *memoir, leave func() (left func()))) {
	onEachStore(t, func(t *testing.T, kind string) {
		for how, leave := range waysToGo {
			t.Run(how, func(t *testing.T) {
				m, server := newMemoir(t)
				s := newSite(t, options{store: kind, gateways: 2, owners: 2, lease: 300 * time.Millisecond, servers: []*registryv1.Server{server}})
				var leaving sync.WaitGroup
				test(t, s, m, func() (left func()) {
					leaving.Go(func() { leave(s, s.owners[0]) })
					return leaving.Wait
				})
				leaving.Wait()
			})
		}
	})
}

// A server's session is the same one whoever owns the client's.
func TestAConversationMovesWithItsSession(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		before := c.tool("1", "who", "{}").text()
		left := leave()
		var after string
		testkit.Eventually(t, func() error { // until the lease ran out
			a := c.at(1).tool("2", "who", "{}")
			if a.status != ok || a.code() != 0 { // one that came just as the owner left may be lost
				return fmt.Errorf("answered %d %s", a.status, a.body)
			}
			after = a.text()
			return nil
		}, patience)
		if before == "" || after != before {
			t.Errorf("the server's session was %q and is %q", before, after)
		}
		left()
		if status := c.at(1).request(t.Context(), http.MethodDelete, c.headers("", nil), nil); status.Body.Close() != nil || status.StatusCode != http.StatusNoContent {
			t.Errorf("DELETE: %d", status.StatusCode)
		}
		testkit.Eventually(t, func() error {
			if n := m.sessions(); n != 0 {
				return fmt.Errorf("the server has %d sessions left", n)
			}
			return nil
		}, patience)
	})
}

// A call that may not be repeated goes on when its owner leaves, and its client misses nothing and gets nothing twice.
func TestACallGoesOnBehindItsOwner(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"count","arguments":{},"_meta":{"progressToken":"p"}}`)
		var seen []string
		progress := func() {
			m.step <- struct{}{}
			seen = append(seen, string(jsonrpc.Get(call.until(mcp.MethodProgress).Params, "progress")))
		}
		progress()
		progress()
		leave()
		call.leave()
		m.step <- struct{}{} // while nobody listens
		testkit.Eventually(t, func() error {
			r := c.at(1).request(t.Context(), http.MethodGet, withLast(c.headers("", nil), call.last), nil)
			if r.StatusCode != ok {
				_ = r.Body.Close()
				return fmt.Errorf("resuming: %d", r.StatusCode)
			}
			last := call.last
			call = c.stream(func() { _ = r.Body.Close() }, r)
			call.last = last
			return nil
		}, patience)
		seen = append(seen, string(jsonrpc.Get(call.until(mcp.MethodProgress).Params, "progress")))
		for range 3 {
			progress()
		}
		if got := text(call.answer().Result); got != "counted for the 1. time" {
			t.Errorf("the call gave %q", got)
		}
		if fmt.Sprint(seen) != "[1 2 3 4 5 6]" {
			t.Errorf("progress %v", seen)
		}
	})
}

// A question that was asked before the owner left is answered behind it, and is not asked twice.
func TestAQuestionOutlivesItsOwner(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, _ *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"ask","arguments":{}}`)
		question := call.until(mcp.MethodElicit)
		leave()
		call.leave()
		testkit.Eventually(t, func() error {
			if a := c.at(1).respond(question.ID, `{"action":"accept","content":{"name":"Ada"}}`); a.status != http.StatusAccepted {
				return fmt.Errorf("answered %d", a.status)
			}
			return nil
		}, patience)
		rest := c.at(1).listen(call.last)
		m := rest.message()
		if got := text(m.Result); got != "hello Ada" {
			t.Errorf("then came %s %s %s%s", m.Method, m.Params, m.Result, m.Error)
		}
	})
}

// Of questions that are alike the one that was not answered before the owner left is answered behind it.
func TestAQuestionThatWasAskedBeforeOutlivesItsOwner(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, _ *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"ask","arguments":{"more":2}}`)
		names := []string{"Ada", "Bob", "Eve"}
		for i, name := range names {
			question := call.until(mcp.MethodElicit)
			if i == 2 {
				leave()
				testkit.Eventually(t, func() bool { return s.owners[1].Sessions() == 1 }, patience)
			}
			if a := c.at(1).respond(question.ID, `{"action":"accept","content":{"name":"`+name+`"}}`); a.status != http.StatusAccepted {
				t.Errorf("answered %d", a.status)
			}
		}
		if got := text(call.answer().Result); got != "hello Ada Bob Eve" {
			t.Errorf("the call gave %q", got)
		}
	})
}

// An answer that its owner has and its server has not is not lost with the owner, and the client is not told before that it
// was taken.
func TestAnAnswerOutlivesItsOwner(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"ask","arguments":{}}`)
		question := call.until(mcp.MethodElicit)
		m.deaf.Store(true)
		taken := make(chan int, 1)
		go func() {
			taken <- c.at(1).respond(question.ID, `{"action":"accept","content":{"name":"Ada"}}`).status
		}()
		within(t, m.missed, "the answer, on its way to the server")
		select {
		case status := <-taken:
			t.Errorf("the client was told %d before the server had its answer", status)
		default:
		}
		m.deaf.Store(false)
		leave()
		if status := within(t, taken, "the end of the answer's request"); status != http.StatusAccepted {
			t.Errorf("the client was told %d", status)
		}
		if got := text(call.answer().Result); got != "hello Ada" {
			t.Errorf("the call gave %q", got)
		}
	})
}

// A server that forgot the session meanwhile is spoken to anew, and told again what the client had told it.
func TestAConversationThatTheServerForgot(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		before := c.tool("1", "who", "{}").text()
		mustAnswer(t, c.call("3", mcp.MethodSetLevel, `{"level":"warning"}`))
		mustAnswer(t, c.call("4", mcp.MethodSubscribe, `{"uri":"`+memoirURI+`"}`))
		standing, after := c.at(1).listen(""), ""
		for session := range m.server.Sessions() {
			must(t, session.Close())
		}
		leave()
		testkit.Eventually(t, func() error {
			a := c.at(1).tool("2", "who", "{}")
			if a.status != ok || a.code() != 0 {
				return fmt.Errorf("answered %d %s", a.status, a.body)
			}
			if after = a.text(); after == "" || after == before {
				t.Errorf("the server's session was %q and is %q", before, after)
			}
			return nil
		}, patience)
		standing.until(mcp.MethodToolsChanged)
		for _, session := range []string{before, after} {
			for _, told := range []string{mcp.MethodSetLevel + " warning", mcp.MethodSubscribe + " " + memoirURI} {
				if _, was := m.told.Load(session + " " + told); !was {
					t.Errorf("in the session %s (once %s) the server was not told %s", session, before, told)
				}
			}
		}
		must(t, m.server.ResourceUpdated(t.Context(), &sdk.ResourceUpdatedNotificationParams{URI: memoirURI}))
		standing.until(mcp.MethodResourceUpdated)
	})
}

// What a server says while a session has no owner is heard later, once.
func TestNothingIsMissedBetweenOwners(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		m, server := newMemoir(t)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		mustAnswer(t, c.call("1", mcp.MethodSubscribe, `{"uri":"`+memoirURI+`"}`))
		updated := func() {
			if err := m.server.ResourceUpdated(t.Context(), &sdk.ResourceUpdatedNotificationParams{URI: memoirURI}); err != nil {
				t.Error(err)
			}
		}
		standing := c.listen("")
		updated()
		standing.until(mcp.MethodResourceUpdated)
		standing.leave()
		s.owners[0].stop()
		for range 3 {
			updated()
		}
		standing = c.at(1).listen(standing.last)
		for range 3 {
			standing.until(mcp.MethodResourceUpdated)
		}
		// What comes next is new.
		mustAnswer(t, c.at(1).call("2", mcp.MethodUnsubscribe, `{"uri":"`+memoirURI+`"}`))
		m.server.RemoveResources(memoirURI)
		s.refresh()
		if next := standing.message(); next.Method != mcp.MethodResourcesChanged {
			t.Errorf("then came %s", next.Method)
		}
	})
}

// A client that listens, and calls nothing, hears at the next owner what its server says.
func TestWhoOnlyListensGoesOnHearing(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		mustAnswer(t, c.tool("1", "who", "{}"))
		mustAnswer(t, c.call("2", mcp.MethodSetLevel, `{"level":"info"}`))
		standing := c.listen("")
		hears := func(what string) {
			t.Helper()
			for session := range m.server.Sessions() {
				must(t, session.Log(t.Context(), &sdk.LoggingMessageParams{Level: "info", Data: what}))
			}
			if got, _ := jsonrpc.GetString(standing.until(mcp.MethodMessage).Params, "data"); got != what {
				t.Errorf("heard %q, want %q", got, what)
			}
		}
		hears("before")
		left := leave()
		testkit.Eventually(t, func() bool { return s.owners[1].Sessions() == 1 }, patience)
		hears("behind")
		left()
		hears("and on")
	})
}

// A call whose stream was taken up once, for the way to its owner broke, goes on when that owner leaves.
func TestACallGoesOnBehindTheOwnerThatWasAskedForItsRest(t *testing.T) {
	onEachWay(t, func(t *testing.T, s *site, m *memoir, leave func() func()) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"count","arguments":{},"_meta":{"progressToken":"p"}}`)
		progress := func() {
			t.Helper()
			m.step <- struct{}{}
			call.until(mcp.MethodProgress)
		}
		progress()
		s.owners[0].wire.cut()
		s.owners[0].wire.mend()
		progress()
		leave()
		testkit.Eventually(t, func() bool { return s.owners[1].Sessions() == 1 }, patience)
		for range 4 {
			progress()
		}
		if got := text(call.answer().Result); got != "counted for the 1. time" {
			t.Errorf("the call gave %q", got)
		}
	})
}
