package transports

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/examples/fixtures"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// promise is one thing that a client may rely on, over any transport.
type promise struct {
	name  string
	check func(t *testing.T, w world, c *client)
}

// world is what promises must know of where they are checked.
type world struct {
	// refresh has the registry look at the server again; nil where a real registry does so by itself.
	refresh func()
	// http: the wire is Streamable HTTP, on which a second initialize opens a session of its own.
	http bool
}

func (w world) changed() {
	if w.refresh != nil {
		w.refresh()
	}
}

// mcpPromises hold for MCP servers: the fixtures.
var mcpPromises = []promise{
	{"introduces itself", introduces},
	{"lists", lists},
	{"calls, reads and prompts", calls},
	{"gives content that the revision has", suits},
	{"completes", completes},
	{"reports progress", progresses},
	{"logs what is asked for", logs},
	{"asks the client", asks},
	{"refuses what it does not know", refuses},
	{"cancels", cancels},
	{"tells of updated resources", tellsUpdates},
	{"tells of changed lists", tellsChanges},
	{"takes tasks", takesTasks},
}

// grpcPromises hold for gRPC services: the order desk.
var grpcPromises = []promise{
	{"introduces itself", introduces},
	{"lists", listsMethods},
	{"keeps integers whole", callsMethods},
	{"tells failures as results", failsMethods},
	{"streams progress", streams},
	{"refuses what it does not know", refuses},
}

// checkAll checks promises with one client, and returns how many held.
func checkAll(t *testing.T, promises []promise, w world, c *client) (held int) {
	t.Helper()
	outer := c.t
	for _, p := range promises {
		if t.Run(p.name, func(t *testing.T) {
			c.t = t
			c.drain()
			p.check(t, w, c)
		}) {
			held++
		}
	}
	c.t = outer
	return held
}

// TestEveryTransport checks each promise over each transport and revision inside this process, for the race detector;
// TestEveryCell does so for real processes.
func TestEveryTransport(t *testing.T) {
	for _, w := range ways {
		for _, version := range append(allLegacy[:len(allLegacy):len(allLegacy)], mcp.V2026_07_28) {
			if version == mcp.V2026_07_28 && !w.modern {
				continue
			}
			t.Run(w.name+"/"+version, func(t *testing.T) {
				s := newSite(t, options{era: fixtures.Dual, gateways: 2})
				c := newClient(t, w.dial(t, s.at(), ""), version).connect()
				checkAll(t, mcpPromises, world{refresh: func() { s.refresh(t) }, http: w.name == "http"}, c)
			})
		}
	}
}

func introduces(t *testing.T, w world, c *client) {
	if c.modern() {
		result := c.call(mcp.MethodDiscover, `{}`)
		if !strings.Contains(string(jsonrpc.Get(result, "supportedVersions")), mcp.V2026_07_28) {
			t.Errorf("discovered %s", result)
		}
		return
	}
	c.call(mcp.MethodPing, `{}`)
	if w.http {
		return
	}
	_, answer := c.begin(mcp.MethodInitialize, `{"protocolVersion":"2025-06-18","capabilities":{}}`)
	if c.await(answer).Error == nil {
		t.Error("a second initialize was not refused")
	}
}

func lists(t *testing.T, _ world, c *client) {
	for method, least := range map[string]int{mcp.MethodToolsList: 37, mcp.MethodPromptsList: 6, mcp.MethodResourcesList: 3} {
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

func calls(t *testing.T, _ world, c *client) {
	if got := c.tool("test_simple_text", `{}`); got != "This is a simple text response for testing." {
		t.Errorf("got %q", got)
	}
	if got := c.tool("test_x_mcp_header", `{"region":"us-west1"}`); !strings.Contains(got, "us-west1") {
		t.Errorf("a tool whose arguments are mirrored in headers gave %q", got)
	}
	c.call(mcp.MethodResourcesRead, `{"uri":"test://static-text"}`)
	c.call(mcp.MethodResourcesRead, `{"uri":"test://template/7/data"}`)
	c.call(mcp.MethodPromptsGet, `{"name":"test_simple_prompt"}`)
	if result := c.call(mcp.MethodToolsCall, `{"name":"test_error_handling"}`); string(jsonrpc.Get(result, "isError")) != "true" {
		t.Errorf("a failed tool gave %s", result)
	}
}

// suits calls a tool whose result is audio, which 2025-03-26 brought.
func suits(t *testing.T, _ world, c *client) {
	want := `"audio"`
	if c.version < mcp.V2025_03_26 {
		want = `"text"`
	}
	result := c.call(mcp.MethodToolsCall, `{"name":"test_audio_content"}`)
	jsonrpc.Elements(jsonrpc.Get(result, "content"), func(block []byte) bool {
		if got := jsonrpc.Get(block, "type"); string(got) != want {
			t.Errorf("revision %s got %s", c.version, block)
		}
		return true
	})
}

func completes(t *testing.T, _ world, c *client) {
	result := c.call(mcp.MethodComplete, `{"ref":{"type":"ref/prompt","name":"test_prompt_with_arguments"},"argument":{"name":"arg1","value":"par"}}`)
	if got := jsonrpc.Get(result, "completion", "values"); string(got) != `["paris","park","party"]` {
		t.Errorf("completed %s", result)
	}
}

// logs has a tool log at a level that the client wants, and at one that it does not.
func logs(t *testing.T, _ world, c *client) {
	level := func(level string) string {
		if c.modern() {
			return `,"_meta":{"` + mcp.MetaLogLevel + `":"` + level + `"}`
		}
		c.call(mcp.MethodSetLevel, `{"level":"`+level+`"}`)
		return ""
	}
	wanted := level("debug")
	c.call(mcp.MethodToolsCall, `{"name":"test_tool_with_logging"`+wanted+`}`)
	for range 3 {
		if m := c.note(mcp.MethodMessage); string(jsonrpc.Get(m.Params, "level")) != `"info"` {
			t.Errorf("logged %s", m.Params)
		}
	}
	unwanted := level("error")
	c.call(mcp.MethodToolsCall, `{"name":"test_tool_with_logging"`+unwanted+`}`)
	c.tool("test_simple_text", `{}`)
	if m, ok := c.noted(mcp.MethodMessage); ok {
		t.Errorf("a message below the level came: %s", m.Params)
	}
}

func progresses(t *testing.T, _ world, c *client) {
	c.call(mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
	for _, want := range []string{"0", "50", "100"} {
		m := c.note(mcp.MethodProgress)
		if got := jsonrpc.Get(m.Params, "progress"); string(got) != want {
			t.Errorf("progress %s, want %s", got, want)
		}
	}
}

// asks has a tool ask the client's model: as a request of the server, or in the result.
func asks(t *testing.T, _ world, c *client) {
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

// cancels gives up a call on its way: no answer may come, for longer than the call would have taken.
func cancels(t *testing.T, _ world, c *client) {
	params := `{"name":"slow_compute","arguments":{"seconds":0.5}}`
	if !c.modern() {
		c.answerWith(nil)
		params = `{"name":"test_sampling","arguments":{"prompt":"?"}}`
	}
	id, answer := c.begin(mcp.MethodToolsCall, params)
	if !c.modern() {
		within(t, c.asked, "the server's question")
	}
	must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`))
	c.call(mcp.MethodToolsCall, `{"name":"slow_compute","arguments":{"seconds":0.7}}`)
	select {
	case m := <-answer:
		t.Errorf("a cancelled call was answered: %s%s", m.Result, m.Error)
	default:
	}
}

// tellsUpdates follows a resource; a modern client does so twice, and leaves one of its subscriptions.
func tellsUpdates(t *testing.T, _ world, c *client) {
	var second string
	if c.modern() {
		const listen = `{"notifications":{"resourceSubscriptions":["test://watched-resource"]}}`
		first, _ := c.begin(mcp.MethodListen, listen)
		second, _ = c.begin(mcp.MethodListen, listen)
		c.note(mcp.MethodAcknowledged)
		c.note(mcp.MethodAcknowledged)
		must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+first+`}}`))
	} else {
		c.call(mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`)
	}
	// A modern listener is heard once its own subscription stands at the server: the first changes may be missed.
	late := time.Now().Add(patience)
	for time.Now().Before(late) {
		c.tool("test_trigger_resource_change", `{}`)
		m, ok := c.noteWithin(mcp.MethodResourceUpdated, time.Second)
		if !ok || c.modern() && string(jsonrpc.Get(m.Params, "_meta", mcp.MetaSubscriptionID)) != second {
			continue
		}
		if uri, _ := jsonrpc.GetString(m.Params, "uri"); uri != "test://watched-resource" {
			t.Errorf("updated %s", m.Params)
		}
		return
	}
	t.Fatal("no update came")
}

func tellsChanges(t *testing.T, w world, c *client) {
	if !c.modern() {
		c.tool("test_trigger_tool_change", `{}`)
		w.changed()
		c.note(mcp.MethodToolsChanged)
		return
	}
	id, answer := c.begin(mcp.MethodListen, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://watched-resource"]}}`)
	other, _ := c.begin(mcp.MethodListen, `{"notifications":{"promptsListChanged":true}}`)
	for range 2 {
		c.note(mcp.MethodAcknowledged)
	}
	c.tool("test_trigger_tool_change", `{}`)
	w.changed()
	m := c.note(mcp.MethodToolsChanged)
	if got := jsonrpc.Get(m.Params, "_meta", mcp.MetaSubscriptionID); string(got) != id {
		t.Errorf("the change belongs to %s, want %s", got, id)
	}
	must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`))
	c.tool("test_simple_text", `{}`)
	c.drain() // what was on its way
	c.tool("test_trigger_tool_change", `{}`)
	c.tool("test_trigger_prompt_change", `{}`)
	w.changed()
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

// takesTasks has a slow call become a task, answers its question, and hears of its end: a task of the server's own
// where it has the extension, else one of the owner's. A legacy client gets the answer.
func takesTasks(t *testing.T, _ world, c *client) {
	const name, yes, want = `"name":"confirm_delete","arguments":{"filename":"x"}`, `{"action":"accept","content":{"confirm":true}}`, "Asked about x: accept."
	if !c.modern() {
		c.answerWith(func(jsonrpc.Message) string { return yes })
		if got := text(c.call(mcp.MethodToolsCall, "{"+name+"}")); got != want {
			t.Errorf("got %q", got)
		}
		return
	}
	const meta = `"_meta":{"` + mcp.MetaCapabilities + `":{"elicitation":{},"extensions":{"` + mcp.ExtensionTasks + `":{}}}}`
	mirrored := c.call(mcp.MethodToolsCall, `{"name":"test_x_mcp_header","arguments":{"region":"us-west1"},`+meta+`}`)
	if jsonrpc.Get(mirrored, "taskId") == nil && !strings.Contains(text(mirrored), "us-west1") { // it may be slow here
		t.Errorf("a tool whose arguments are mirrored in headers gave %s", mirrored)
	}
	created := c.call(mcp.MethodToolsCall, `{`+name+`,`+meta+`}`)
	id, ok := jsonrpc.GetString(created, "taskId")
	if !ok {
		t.Fatalf("no task was made: %s", created)
	}
	about := `"taskId":"` + id + `",` + meta
	c.begin(mcp.MethodListen, `{"notifications":{"taskIds":["`+id+`"]},`+meta+`}`)
	for {
		task := c.note(mcp.MethodTasks).Params
		if got, _ := jsonrpc.GetString(task, "taskId"); got != id {
			t.Fatalf("heard %s", task)
		}
		switch status, _ := jsonrpc.GetString(task, "status"); status {
		case "input_required":
			requests, _ := jsonrpc.ParseObject(jsonrpc.Get(task, "inputRequests"))
			c.call(mcp.MethodTasksUpdate, `{`+about+`,"inputResponses":{"`+requests.Keys()[0]+`":`+yes+`}}`)
		case "completed":
			if got := text(jsonrpc.Get(c.call(mcp.MethodTasksGet, `{`+about+`}`), "result")); got != want {
				t.Errorf("got %q", got)
			}
			return
		case "failed", "cancelled":
			t.Fatalf("the task ended as %s", task)
		}
	}
}

func refuses(t *testing.T, _ world, c *client) {
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

func listsMethods(t *testing.T, _ world, c *client) {
	result := c.call(mcp.MethodToolsList, `{}`)
	for _, name := range []string{"GetProduct", "WatchOrder"} {
		if !strings.Contains(string(result), name) {
			t.Errorf("no %s in %s", name, result)
		}
	}
	for method, member := range map[string]string{mcp.MethodPromptsList: "prompts", mcp.MethodResourcesList: "resources", mcp.MethodTemplatesList: "resourceTemplates"} {
		if got := jsonrpc.Get(c.call(method, `{}`), member); string(got) != "[]" {
			t.Errorf("%s gave %s", method, got)
		}
	}
}

func callsMethods(t *testing.T, _ world, c *client) {
	result := c.call(mcp.MethodToolsCall, `{"name":"GetProduct","arguments":{"sku":"lighthouse"}}`)
	if !strings.Contains(string(result), "9007199254740993") {
		t.Errorf("got %s", result)
	}
	if c.version >= mcp.V2025_06_18 && jsonrpc.Get(result, "structuredContent") == nil {
		t.Errorf("no structured content in %s", result)
	}
}

func failsMethods(t *testing.T, _ world, c *client) {
	for _, arguments := range []string{`{"sku":"nothing-of-that-name"}`, `{"sku":7}`} {
		result := c.call(mcp.MethodToolsCall, `{"name":"GetProduct","arguments":`+arguments+`}`)
		if string(jsonrpc.Get(result, "isError")) != "true" {
			t.Errorf("%s gave %s", arguments, result)
		}
	}
}

// streams follows an order: a server-streaming method, whose messages are progress.
func streams(t *testing.T, _ world, c *client) {
	placed := c.call(mcp.MethodToolsCall, `{"name":"PlaceOrder","arguments":{"customer":"t","lines":[{"sku":"mug-blue","quantity":1}],"pickUpBy":"t"}}`)
	var order struct{ Order struct{ ID string } }
	if err := json.Unmarshal([]byte(text(placed)), &order); err != nil || order.Order.ID == "" {
		t.Fatalf("placed %s", placed)
	}
	result := c.call(mcp.MethodToolsCall, `{"name":"WatchOrder","arguments":{"id":"`+order.Order.ID+`"},"_meta":{"progressToken":"w"}}`)
	c.note(mcp.MethodProgress)
	if !strings.Contains(string(result), "DELIVERED") {
		t.Errorf("watched to %s", result)
	}
}
