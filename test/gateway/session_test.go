package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/examples/fixtures"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// ofEachEra runs a test with a server of each era behind two gateways and two owners.
func ofEachEra(t *testing.T, test func(t *testing.T, s *site)) {
	onEachStore(t, func(t *testing.T, kind string) {
		for _, era := range []fixtures.Era{fixtures.Legacy, fixtures.Modern, fixtures.Dual} {
			t.Run(string(era), func(t *testing.T) {
				t.Parallel()
				test(t, newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{fixture(t, "fixtures", era)}}))
			})
		}
	})
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

func TestASessionIsUsedAtAnyGateway(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		for _, version := range mcp.LegacyVersions {
			c := s.legacy(0, "", version)
			for i, request := range [][2]string{
				{mcp.MethodPing, ""},
				{mcp.MethodToolsList, ""},
				{mcp.MethodPromptsList, ""},
				{mcp.MethodResourcesList, ""},
				{mcp.MethodTemplatesList, ""},
				{mcp.MethodSetLevel, `{"level":"info"}`},
				{mcp.MethodToolsCall, `{"name":"test_simple_text"}`},
				{mcp.MethodPromptsGet, `{"name":"test_prompt_with_arguments","arguments":{"arg1":"a","arg2":"b"}}`},
				{mcp.MethodResourcesRead, `{"uri":"test://static-text"}`},
				{mcp.MethodResourcesRead, `{"uri":"test://template/7/data"}`},
				{mcp.MethodComplete, `{"ref":{"type":"ref/prompt","name":"test_prompt_with_arguments"},"argument":{"name":"arg1","value":"p"}}`},
				{mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`},
				{mcp.MethodUnsubscribe, `{"uri":"test://watched-resource"}`},
			} {
				id := fmt.Sprint(i)
				here, there := c.call(id, request[0], request[1]), c.at(1).call(id, request[0], request[1])
				if here.status != ok || here.code() != 0 || !bytes.Equal(here.result(), there.result()) {
					t.Errorf("%s: %s gave %d %s here and %d %s there", version, request[0], here.status, here.body, there.status, there.body)
				}
			}
		}
		if n := s.owners[0].Sessions(); n != len(mcp.LegacyVersions) {
			t.Errorf("the first owner has %d sessions", n)
		}
	})
}

// Progress and the log level of a session hold at each gateway, and nobody hears more than asked for.
func TestProgressAndLogsFollowTheClient(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		const progress = `{"name":"test_tool_with_progress","_meta":{"progressToken":%s}}`
		for i, token := range []string{`"p"`, `7`, `9007199254740991`, `"p"`} {
			var got []string
			for _, params := range c.at(i%2).call("1", mcp.MethodToolsCall, fmt.Sprintf(progress, token)).notes(mcp.MethodProgress) {
				got = append(got, string(jsonrpc.Get(params, "progressToken"))+" "+string(jsonrpc.Get(params, "progress")))
			}
			if diff := cmp.Diff([]string{token + " 0", token + " 50", token + " 100"}, got); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		}
		if notes := c.tool("1", "test_tool_with_progress", "{}").notes(mcp.MethodProgress); len(notes) > 0 {
			t.Errorf("progress that nobody asked for: %s", notes)
		}
		for i, x := range []struct {
			level string
			want  int
		}{{"debug", 3}, {"error", 0}, {"info", 3}, {"emergency", 0}} {
			mustAnswer(t, c.at(i%2).call("1", mcp.MethodSetLevel, `{"level":"`+x.level+`"}`))
			if got := len(c.at(1-i%2).tool("2", "test_tool_with_logging", "{}").notes(mcp.MethodMessage)); got != x.want {
				t.Errorf("at level %s %d messages came, want %d", x.level, got, x.want)
			}
		}
		modern := s.modern(1, "")
		for level, want := range map[string]int{"": 0, "debug": 3, "error": 0} {
			params := json.RawMessage(`{"name":"test_tool_with_logging"}`)
			if level != "" {
				params = jsonrpc.With(params, jsonrpc.String(level), "_meta", mcp.MetaLogLevel)
			}
			if got := len(modern.call("1", mcp.MethodToolsCall, string(params)).notes(mcp.MethodMessage)); got != want {
				t.Errorf("a modern client at level %q got %d messages, want %d", level, got, want)
			}
		}
	})
}

// What a server asks reaches the client where it reads, and the answer may come from anywhere.
func TestAnswersReachTheServerFromAnyGateway(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		for _, x := range []struct{ tool, arguments, method, answer, want string }{
			{"test_elicitation", `{"message":"?"}`, mcp.MethodElicit, `{"action":"accept","content":{"username":"me","email":"x"}}`, `"username":"me"`},
			{"test_elicitation", `{"message":"?"}`, mcp.MethodElicit, `{"action":"cancel"}`, "action=cancel"},
			{"test_sampling", `{"prompt":"?"}`, mcp.MethodSample, `{"role":"assistant","model":"m","content":{"type":"text","text":"said"}}`, "LLM response: said"},
			{"test_input_required_result_list_roots", `{}`, mcp.MethodRootsList, `{"roots":[{"uri":"file:///a"},{"uri":"file:///b"}]}`, "file:///a file:///b"},
		} {
			call := c.begin("1", mcp.MethodToolsCall, `{"name":"`+x.tool+`","arguments":`+x.arguments+`}`)
			question := call.until(x.method)
			for gateway := range s.gateways { // the second time nobody waits any more
				if a := c.at(1-gateway).respond(question.ID, x.answer); a.status != http.StatusAccepted {
					t.Errorf("the answer to %s was answered %d", x.method, a.status)
				}
			}
			if got := text(call.answer().Result); !strings.Contains(got, x.want) {
				t.Errorf("%s gave %q, want %q", x.tool, got, x.want)
			}
		}

		// Two at once, answered in the other order, one of them with an error.
		first := c.begin("1", mcp.MethodToolsCall, `{"name":"test_sampling","arguments":{"prompt":"1"}}`)
		one := first.until(mcp.MethodSample)
		second := c.at(1).begin("2", mcp.MethodToolsCall, `{"name":"test_sampling","arguments":{"prompt":"2"}}`)
		two := second.until(mcp.MethodSample)
		c.respond(two.ID, `{"role":"assistant","model":"m","content":{"type":"text","text":"two"}}`)
		if got := text(second.answer().Result); !strings.HasSuffix(got, "two") {
			t.Errorf("the second gave %q", got)
		}
		c.at(1).send(c.headers("", nil), string(jsonrpc.ErrorResponse(one.ID, jsonrpc.Errorf(-1, "the user said no").JSON())))
		if m := first.answer(); !strings.Contains(string(m.Result)+string(m.Error), "the user said no") {
			t.Errorf("the first gave %s%s", m.Result, m.Error)
		}
	})
}

// A client that lost its stream reads a server's question elsewhere and answers it there.
func TestAQuestionCanBeReadAgain(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"test_sampling","arguments":{"prompt":"?"}}`)
		start := call.id()
		call.until(mcp.MethodSample)
		call.leave()
		again := c.at(1).listen(start)
		question := again.until(mcp.MethodSample)
		c.respond(question.ID, `{"role":"assistant","model":"m","content":{"type":"text","text":"late"}}`)
		if got := text(again.answer().Result); !strings.HasSuffix(got, "late") {
			t.Errorf("got %q", got)
		}
		again.ended()
	})
}

func TestABrokenStreamIsResumedAnywhere(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		st, server := newStage(t, "stage", false)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
		for _, version := range []string{mcp.V2025_03_26, mcp.V2025_06_18, mcp.V2025_11_25} {
			t.Run(version, func(t *testing.T) {
				const count = 40
				c := s.legacy(0, "", version)
				call := c.begin("1", mcp.MethodToolsCall, `{"name":"count","arguments":{"to":40},"_meta":{"progressToken":"p"}}`)
				go st.steps(t, count)
				first, seen := "", []string(nil)
				for gateway, over := 1, false; !over; gateway++ {
					for range 7 { // as many as this connection lasts for
						m := call.message()
						if first == "" {
							first = call.last
						}
						if over = m.IsResponse(); over {
							break
						}
						seen = append(seen, string(jsonrpc.Get(m.Params, "progress")))
					}
					call.leave()
					if !over {
						call = c.at(gateway % 2).listen(call.last)
					}
				}
				var want []string
				for i := range count {
					want = append(want, fmt.Sprint(i+1))
				}
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Errorf("progress (-want +got):\n%s", diff)
				}
				// What was had can be had again, from any event on.
				for gateway := range s.gateways {
					again := c.at(gateway).listen(first)
					for _, number := range want[1:] {
						if got := string(jsonrpc.Get(again.message().Params, "progress")); got != number {
							t.Fatalf("read again: progress %s, want %s", got, number)
						}
					}
					if got := text(again.answer().Result); got != "counted" {
						t.Errorf("read again: %q", got)
					}
					again.ended()
				}
			})
		}
	})
}

// What comes on the standing stream while nobody reads it is had once, in order.
func TestTheStandingStreamIsResumedAnywhere(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c, other := s.legacy(0, "", mcp.V2025_11_25), s.legacy(1, "", mcp.V2025_11_25)
		standing := c.at(1).listen("")
		change := map[string]string{"test_trigger_tool_change": mcp.MethodToolsChanged, "test_trigger_prompt_change": mcp.MethodPromptsChanged}
		trigger := func(tool string) { // changes that come at once are told at once: one after the other
			before := s.logged(c)
			other.tool("1", tool, "{}")
			s.refresh()
			testkit.Eventually(t, func() bool { return s.logged(c) == before+1 }, patience)
		}
		trigger("test_trigger_tool_change")
		standing.until(mcp.MethodToolsChanged)
		standing.leave()
		order := []string{"test_trigger_prompt_change", "test_trigger_tool_change", "test_trigger_prompt_change", "test_trigger_prompt_change"}
		for _, tool := range order {
			trigger(tool)
		}
		again := c.listen(standing.last)
		for _, tool := range order {
			if m := again.message(); m.Method != change[tool] {
				t.Errorf("got %s, want %s", m.Method, change[tool])
			}
		}
		// A stream on which nothing is said tells an id all the same, each time another one, for there are clients that
		// take one without for a broken server.
		again.leave()
		first := c.at(1).listen(again.last)
		quiet := first.id()
		first.leave()
		second := c.listen(quiet)
		if id := second.id(); id == quiet || id == again.last {
			t.Errorf("a quiet stream told the ids %s, %s, %s", again.last, quiet, id)
		}
		// The newest connection counts.
		newest := c.at(1).listen("")
		second.ended()
		trigger("test_trigger_tool_change")
		if m := newest.message(); m.Method != mcp.MethodToolsChanged {
			t.Errorf("the newest connection got %s", m.Method)
		}
	})
}

func TestCancellingReachesTheServer(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		legacy, one := newStage(t, "legacy", false)
		modern, two := newStage(t, "modern", true)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{one, two}})
		for view, st := range map[string]*stage{"legacy": legacy, "modern": modern} {
			t.Run("a session's call/"+view, func(t *testing.T) {
				c := s.legacy(0, view, mcp.V2025_11_25)
				call := c.begin("1", mcp.MethodToolsCall, `{"name":"hold"}`)
				within(t, st.held, "the call")
				start := call.id()
				call.leave() // which cancels nothing
				c.at(1).notify(mcp.MethodCancelled, `{"requestId":"1"}`)
				if a := c.call("1", mcp.MethodSetLevel, `{"level":"info"}`); a.code() != jsonrpc.CodeInvalidRequest {
					t.Errorf("the call is no longer under way: %s", a.body)
				}
				c.at(1).notify(mcp.MethodCancelled, `{"requestId":1,"reason":"enough"}`)
				within(t, st.ended, "the end of the call")
				c.at(1).listen(start).ended()
				c.notify(mcp.MethodCancelled, `{"requestId":1}`) // once more, for nobody
				if got := c.call("1", mcp.MethodPing, "").code(); got != 0 {
					t.Errorf("after that a ping gave %d", got)
				}
			})
			t.Run("a modern client that goes away/"+view, func(t *testing.T) {
				call := make(chan struct{})
				c := s.modern(0, view)
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				go func() {
					defer close(call)
					p := c.params(`{"name":"hold"}`)
					c.quietly(ctx, c.headers(mcp.MethodToolsCall, p), jsonrpc.Request(json.RawMessage("1"), mcp.MethodToolsCall, p))
				}()
				within(t, st.held, "the call")
				leave()
				within(t, st.ended, "the end of the call")
				<-call
			})
		}
	})
}

// Changes of lists and resources reach clients of each era, wherever they listen and whoever made the change.
func TestChangesReachWhoeverListens(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		legacy := s.legacy(0, "", mcp.V2025_11_25)
		standing := legacy.at(1).listen("")
		mustAnswer(t, legacy.call("1", mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`))
		var listening []*stream
		for gateway := range s.gateways {
			l := s.modern(gateway, "").begin(`"sub-`+fmt.Sprint(gateway)+`"`, mcp.MethodListen, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://watched-resource","no://such"]}}`)
			ack := l.message()
			want := `{"toolsListChanged":true,"resourceSubscriptions":["test://watched-resource"`
			if got := string(jsonrpc.Get(ack.Params, "notifications")); ack.Method != mcp.MethodAcknowledged || !strings.HasPrefix(got, want) {
				t.Errorf("acknowledged %s %s", ack.Method, got)
			}
			listening = append(listening, l)
		}
		changer := s.modern(1, "")
		// Servers tell of their resources on connections of their own, which may need a moment to be there.
		heard := func(l *stream) bool {
			select {
			case g := <-l.events:
				return g.m.Method == mcp.MethodResourceUpdated
			default:
				return false
			}
		}
		for _, l := range append(listening, standing) {
			testkit.Eventually(t, func() bool {
				changer.tool("1", "test_trigger_resource_change", "{}")
				return heard(l)
			}, patience)
		}
		changer.tool("1", "test_trigger_prompt_change", "{}") // modern clients did not ask for these
		changer.tool("1", "test_trigger_tool_change", "{}")
		s.refresh()
		standing.until(mcp.MethodToolsChanged)
		for gateway, l := range listening {
			m := l.until(mcp.MethodToolsChanged)
			if id, _ := jsonrpc.GetString(m.Params, "_meta", mcp.MetaSubscriptionID); id != "sub-"+fmt.Sprint(gateway) {
				t.Errorf("the change names the subscription %q", id)
			}
		}
		mustAnswer(t, legacy.call("2", mcp.MethodUnsubscribe, `{"uri":"test://watched-resource"}`))
	})
}

func TestServersHearThatRootsChanged(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		st, server := newStage(t, "stage", false)
		s := newSite(t, options{store: kind, gateways: 2, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		mustAnswer(t, c.tool("1", "count", `{"to":0}`)) // opens the conversation
		if a := c.at(1).notify(mcp.MethodRootsChanged, ""); a.status != http.StatusAccepted {
			t.Errorf("answered %d", a.status)
		}
		within(t, st.roots, "the change")
	})
}

// One session more than there may be is refused; those that are open go on, and one that ends makes room.
func TestSessionsAreBounded(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		for name, o := range map[string]options{"of an owner": {maxSessions: 3}, "of a principal": {principalLimit: 3}} {
			t.Run(name, func(t *testing.T) {
				o.store, o.authn, o.servers = kind, someone{}, dual(t)
				s := newSite(t, o)
				opening := (&client{t: t, g: s.gateways[0], view: "/", can: everything, version: mcp.V2025_11_25}).as("alice")
				var open []*client
				for range 3 {
					c := *opening
					open = append(open, c.initialize())
				}
				a := opening.send(http.Header{}, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
				if a.status != http.StatusServiceUnavailable || a.code() == 0 || a.header.Get(mcp.HeaderSession) != "" {
					t.Errorf("one more was answered %d %s", a.status, a.body)
				}
				if o.principalLimit > 0 {
					opening.as("bob").initialize()
				}
				for _, c := range open {
					mustAnswer(t, c.tool("1", "test_simple_text", "{}"))
				}
				(bad{verb: http.MethodDelete}).send(open[0])
				opening.initialize()
			})
		}
	})
}

func TestDeleteEndsASessionEverywhere(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		st, server := newStage(t, "stage", false)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
		c, other := s.legacy(0, "", mcp.V2025_11_25), s.legacy(0, "", mcp.V2025_11_25)
		standing := c.at(1).listen("")
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"hold"}`)
		within(t, st.held, "the call")
		if a := (bad{verb: http.MethodDelete}).send(c.at(1)); a.status != http.StatusNoContent {
			t.Errorf("DELETE was answered %d", a.status)
		}
		within(t, st.ended, "the end of the call")
		standing.ended()
		for {
			if _, more := call.next(); !more {
				break
			}
		}
		for gateway := range s.gateways {
			for _, b := range []bad{{body: `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"hold"}}`}, {verb: http.MethodGet}, {verb: http.MethodDelete}} {
				testkit.Eventually(t, func() error { // the other gateway hears of it in a moment
					if a := b.send(c.at(gateway)); a.status != notFound {
						return fmt.Errorf("after DELETE gateway %d answers %s %d", gateway, b.verb, a.status)
					}
					return nil
				}, patience)
			}
		}
		if n := s.owners[0].Sessions(); n != 1 {
			t.Errorf("%d sessions are left", n)
		}
		if got := other.call("1", mcp.MethodPing, "").code(); got != 0 {
			t.Errorf("another session gives %d", got)
		}
	})
}
