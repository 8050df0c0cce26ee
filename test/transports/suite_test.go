package transports

import (
	"encoding/json"
	"strings"
	"testing"

	"erlmcp.dev/examples/fixtures"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// promise is one thing that a client may rely on, over any transport.
type promise struct {
	name  string
	check func(t *testing.T, s *site, c *client)
}

var promises = []promise{
	{"introduces itself", introduces},
	{"lists", lists},
	{"calls", calls},
	{"reports progress", progresses},
	{"asks the client", asks},
	{"cancels", cancels},
	{"tells of changed lists", tellsChanges},
	{"refuses what it does not know", refuses},
}

// TestEveryTransport checks each promise over each transport and revision, with servers of each era behind.
func TestEveryTransport(t *testing.T) {
	for _, era := range []fixtures.Era{fixtures.Dual, fixtures.Modern, fixtures.Legacy} {
		for _, w := range ways {
			versions := w.versions
			if w.modern {
				versions = append(versions[:len(versions):len(versions)], mcp.V2026_07_28)
			}
			for _, version := range versions {
				t.Run(string(era)+"/"+w.name+"/"+version, func(t *testing.T) {
					s := newSite(t, options{era: era, gateways: 2})
					for _, p := range promises {
						t.Run(p.name, func(t *testing.T) {
							p.check(t, s, newClient(t, w.dial(t, s, ""), version).connect())
						})
					}
				})
			}
		}
	}
}

func introduces(t *testing.T, _ *site, c *client) {
	if c.modern() {
		result := c.call(mcp.MethodDiscover, `{}`)
		if !strings.Contains(string(jsonrpc.Get(result, "supportedVersions")), mcp.V2026_07_28) {
			t.Errorf("discovered %s", result)
		}
		return
	}
	c.call(mcp.MethodPing, `{}`)
	_, answer := c.begin(mcp.MethodInitialize, `{"protocolVersion":"2025-06-18","capabilities":{}}`)
	if _, isHTTP := c.wire.(*frames); c.await(answer).Error == nil && !isHTTP { // over HTTP it opens a session of its own
		t.Error("a second initialize was not refused")
	}
}

func lists(t *testing.T, _ *site, c *client) {
	for method, least := range map[string]int{mcp.MethodToolsList: 30, mcp.MethodPromptsList: 6, mcp.MethodResourcesList: 3} {
		var lists map[string]json.RawMessage
		must(t, json.Unmarshal(c.call(method, `{}`), &lists))
		member, _, _ := strings.Cut(method, "/")
		var items []any
		must(t, json.Unmarshal(lists[member], &items))
		if len(items) != least {
			t.Errorf("%s gave %d, want %d", method, len(items), least)
		}
	}
}

func calls(t *testing.T, _ *site, c *client) {
	if got := c.tool("test_simple_text", `{}`); got != "This is a simple text response for testing." {
		t.Errorf("got %q", got)
	}
	if got := c.tool("test_x_mcp_header", `{"region":"us-west1"}`); !strings.Contains(got, "us-west1") {
		t.Errorf("a tool whose arguments are mirrored in headers gave %q", got)
	}
	c.call(mcp.MethodResourcesRead, `{"uri":"test://static-text"}`)
	c.call(mcp.MethodPromptsGet, `{"name":"test_simple_prompt"}`)
}

func progresses(t *testing.T, _ *site, c *client) {
	c.call(mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
	for _, want := range []string{"0", "50", "100"} {
		m := c.note(mcp.MethodProgress)
		if got := jsonrpc.Get(m.Params, "progress"); string(got) != want {
			t.Errorf("progress %s, want %s", got, want)
		}
	}
}

// asks has a tool ask the client's model: as a request of the server, or in the result.
func asks(t *testing.T, _ *site, c *client) {
	const model = `{"role":"assistant","model":"none","content":{"type":"text","text":"Paris"}}`
	const want = "LLM response: Paris"
	params := json.RawMessage(`{"name":"test_sampling","arguments":{"prompt":"Which town?"}}`)
	if !c.modern() {
		c.answerWith(func(jsonrpc.Message) string { return model })
		if got := text(c.call(mcp.MethodToolsCall, string(params))); got != want {
			t.Errorf("got %q", got)
		}
		return
	}
	result := c.call(mcp.MethodToolsCall, string(params))
	requests, _ := jsonrpc.ParseObject(jsonrpc.Get(result, "inputRequests"))
	if requests.Len() != 1 {
		t.Fatalf("no question in %s", result)
	}
	params = jsonrpc.With(params, json.RawMessage(model), "inputResponses", requests.Keys()[0])
	if state := jsonrpc.Get(result, "requestState"); state != nil {
		params = jsonrpc.With(params, state, "requestState")
	}
	if got := text(c.call(mcp.MethodToolsCall, string(params))); got != want {
		t.Errorf("got %q", got)
	}
}

// cancels gives up a call on its way: no answer may come.
func cancels(t *testing.T, _ *site, c *client) {
	params := `{"name":"test_tool_with_progress","_meta":{"progressToken":"gone"}}`
	if !c.modern() {
		params = `{"name":"test_sampling","arguments":{"prompt":"?"}}`
	}
	id, answer := c.begin(mcp.MethodToolsCall, params)
	if c.modern() {
		c.note(mcp.MethodProgress)
	} else {
		within(t, c.asked, "the server's question")
	}
	must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`))
	// A call that takes as long as the rest of the cancelled one would have.
	c.call(mcp.MethodToolsCall, `{"name":"test_tool_with_progress"}`)
	select {
	case m := <-answer:
		t.Errorf("a cancelled call was answered: %s%s", m.Result, m.Error)
	default:
	}
}

func tellsChanges(t *testing.T, s *site, c *client) {
	if !c.modern() {
		c.tool("test_trigger_tool_change", `{}`)
		s.refresh(t)
		c.note(mcp.MethodToolsChanged)
		return
	}
	id, answer := c.begin(mcp.MethodListen, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://watched-resource"]}}`)
	other, _ := c.begin(mcp.MethodListen, `{"notifications":{"promptsListChanged":true}}`)
	for range 2 {
		c.note(mcp.MethodAcknowledged)
	}
	c.tool("test_trigger_tool_change", `{}`)
	s.refresh(t)
	m := c.note(mcp.MethodToolsChanged)
	if got := jsonrpc.Get(m.Params, "_meta", mcp.MetaSubscriptionID); string(got) != id {
		t.Errorf("the change belongs to %s, want %s", got, id)
	}
	must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`))
	c.tool("test_trigger_tool_change", `{}`)
	c.tool("test_trigger_prompt_change", `{}`)
	s.refresh(t)
	for {
		m := within(t, c.notes, "the prompts' change")
		if m.Method == mcp.MethodToolsChanged {
			t.Error("a subscription that was cancelled goes on")
		}
		if m.Method == mcp.MethodPromptsChanged {
			if got := jsonrpc.Get(m.Params, "_meta", mcp.MetaSubscriptionID); string(got) != other {
				t.Errorf("the change belongs to %s, want %s", got, other)
			}
			break
		}
	}
	select {
	case m := <-answer:
		t.Errorf("a cancelled subscription was answered: %s%s", m.Result, m.Error)
	default:
	}
}

func refuses(t *testing.T, _ *site, c *client) {
	for _, request := range [][2]string{
		{"no/such", `{}`},
		{mcp.MethodToolsCall, `{"name":"no_such_tool"}`},
		{mcp.MethodToolsCall, `{}`},
		{mcp.MethodToolsList, `{"cursor":"nonsense"}`},
	} {
		_, answer := c.begin(request[0], request[1])
		if m := c.await(answer); m.Error == nil {
			t.Errorf("%s %s gave %s", request[0], request[1], m.Result)
		}
	}
}
