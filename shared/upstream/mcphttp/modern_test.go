package mcphttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

func TestAModernServerOfTheOfficialSDKIsCalled(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "echo", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1}); err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(r.Params.Arguments)}}}, nil
	})
	s := serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true}))
	m := newModern(t, s.config())
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p"}`
	e := &ear{}
	for range 10 {
		reply, err := m.Call(t.Context(), toolCall(`{"name":"echo","arguments":{"a":12345678901234567890},`+meta+`}`), e)
		if err != nil || !strings.Contains(string(reply.Result), `{\"a\":12345678901234567890}`) {
			t.Fatalf("%s %s %v", reply.Result, reply.Error, err)
		}
	}
	if heard := e.all(); len(heard) != 10 || !strings.Contains(heard[0], `"progressToken":"p"`) {
		t.Errorf("heard %q", heard)
	}
	if n := s.accepted.Load(); n > 2 {
		t.Errorf("%d connections for 10 streamed answers", n)
	}
	reply, err := m.Call(t.Context(), upstream.Request{Method: "nonsense", Params: json.RawMessage(`{` + meta + `}`)}, nil)
	if err != nil || jsonrpc.ParseError(reply.Error).Code != jsonrpc.CodeMethodNotFound || reply.Status != http.StatusNotFound {
		t.Errorf("%s %d %v", reply.Error, reply.Status, err)
	}
}

func TestHeadersMirrorTheBody(t *testing.T) {
	var got http.Header
	s := script(t, func(p *post) {
		got = p.r.Header.Clone()
		p.result(`{}`)
	})
	config := s.config()
	config.Headers = map[string]string{"Authorization": "Bearer ours", "X-Tenant": "a"}
	m := newModern(t, config)
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`
	for _, test := range []struct{ method, params, name string }{
		{"tools/call", `{"name":"plain name",` + meta + `}`, "plain name"},
		{"tools/call", `{"name":"zo\u00eb",` + meta + `}`, "=?base64?em/Dqw==?="},
		{"tools/call", `{"name":" led",` + meta + `}`, "=?base64?IGxlZA==?="},
		{"tools/call", `{"name":"=?base64?eA==?=",` + meta + `}`, "=?base64?PT9iYXNlNjQ/ZUE9PT89?="},
		{"tools/call", `{"name":"a\r\nX-Injected: 1",` + meta + `}`, "=?base64?YQ0KWC1JbmplY3RlZDogMQ==?="},
		{"prompts/get", `{"name":"p",` + meta + `}`, "p"},
		{"resources/read", `{"uri":"test://x/\u65e5",` + meta + `}`, "=?base64?dGVzdDovL3gv5pel?="},
		{"tasks/get", `{"taskId":"7",` + meta + `}`, "7"},
		{"tools/list", `{"name":"x",` + meta + `}`, ""},
		{"tools/call", `{"name":7,` + meta + `}`, ""},
	} {
		if _, err := m.Call(t.Context(), upstream.Request{Method: test.method, Params: json.RawMessage(test.params)}, nil); err != nil {
			t.Errorf("%s: %v", test.params, err)
		}
		if got.Get("Mcp-Name") != test.name || got.Get("Mcp-Method") != test.method || got.Get("Mcp-Protocol-Version") != "2026-07-28" || got.Get("X-Injected") != "" {
			t.Errorf("%s %s: %v", test.method, test.params, got)
		}
	}
	headers := http.Header{
		"Mcp-Param-Region": {"eu"}, "Traceparent": {"00-1"}, "Tracestate": {"t"}, "Baggage": {"b"},
		"Authorization": {"Bearer theirs"}, "authorization": {"Bearer theirs"}, "Cookie": {"c"}, "Host": {"evil"}, "X-Tenant": {"b"},
		"Mcp-Session-Id": {"stolen"}, "Mcp-Method": {"x"}, "Mcp-Name": {"x"}, "Mcp-Protocol-Version": {"1"}, "Content-Type": {"x"}, "Accept": {"x"},
		"Transfer-Encoding": {"chunked"}, "Content-Length": {"1"},
	}
	if _, err := m.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(modernParams), Headers: headers}, nil); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Mcp-Param-Region": "eu", "Traceparent": "00-1", "Tracestate": "t", "Baggage": "b",
		"Authorization": "Bearer ours", "X-Tenant": "a", "Cookie": "", "Mcp-Session-Id": "",
		"Mcp-Method": "tools/call", "Mcp-Name": "t", "Mcp-Protocol-Version": "2026-07-28", "Content-Type": "application/json",
	} {
		if values := got.Values(key); strings.Join(values, "|") != want {
			t.Errorf("%s: %q, want %q", key, values, want)
		}
	}
}

func TestWhatNoHeaderCanCarryIsNotSent(t *testing.T) {
	s := script(t, func(p *post) { t.Errorf("it was sent: %q", p.r.Header) })
	m := newModern(t, s.config())
	for _, r := range []upstream.Request{
		{Method: "evil\r\nX-Injected: 1", Params: json.RawMessage(modernParams)},
		{Method: "tools/call", Params: json.RawMessage(`{"_meta":{"io.modelcontextprotocol/protocolVersion":"1\r\nX-Injected: 1"}}`)},
		{Method: "tools/call", Params: json.RawMessage(modernParams), Headers: http.Header{"Mcp-Param-A": {"x\r\nX-Injected: 1"}}},
	} {
		if _, err := m.Call(t.Context(), r, nil); !errors.Is(err, upstream.ErrNotSent) {
			t.Errorf("%q: %v", r.Method, err)
		}
	}
}

func TestAModernStreamIsHeardForItsRequestOnly(t *testing.T) {
	s := script(t, func(p *post) {
		p.event(": comment")
		p.event(`data: {"jsonrpc":"2.0","method":"a","params":{"n":12345678901234567890}}`)
		p.event(`data: {"jsonrpc":"2.0","method":"b","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, p.id)
		p.event(`data: {"jsonrpc":"2.0","method":"c","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"other"}}}`)
		p.event(`data: {"jsonrpc":"2.0","id":1,"method":"roots/list"}`) // forbidden, and passed over
		p.event(`data: {"jsonrpc":"2.0","id":"other","result":{"wrong":true}}`)
		p.event("event: other\ndata: {{{")
		p.event(`data: {"jsonrpc":"2.0","id":%s,"result":{}}`, p.id)
	})
	e := &ear{}
	reply, err := newModern(t, s.config()).Call(t.Context(), toolCall(modernParams), e)
	if err != nil || string(reply.Result) != `{}` {
		t.Errorf("%s %v", reply.Result, err)
	}
	if heard := e.all(); len(heard) != 2 || heard[0] != `a {"n":12345678901234567890}` || !strings.HasPrefix(heard[1], "b ") {
		t.Errorf("heard %q", heard)
	}
}

func TestEndingTheContextClosesAModernRequest(t *testing.T) {
	for _, stream := range []bool{false, true} {
		arrived, closed := make(chan struct{}), make(chan struct{})
		s := script(t, func(p *post) {
			if stream {
				p.event(": hello")
			}
			close(arrived)
			<-p.r.Context().Done()
			close(closed)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		done := call(ctx, newModern(t, s.config()), nil)
		<-arrived
		why := errors.New("the client left")
		cancel(why)
		if got := <-done; !errors.Is(got.err, why) {
			t.Error(got.err)
		}
		<-closed
	}
}

func TestCloseEndsModernCalls(t *testing.T) {
	arrived := make(chan struct{}, 10)
	s := script(t, func(p *post) {
		arrived <- struct{}{}
		<-p.r.Context().Done()
	})
	m := newModern(t, s.config())
	var calls []<-chan outcome
	for range 10 {
		calls = append(calls, call(t.Context(), m, nil))
	}
	for range 10 {
		<-arrived
	}
	_ = m.Close()
	for _, done := range calls {
		if got := <-done; !errors.Is(got.err, upstream.ErrClosed) || errors.Is(got.err, upstream.ErrNotSent) {
			t.Error(got.err)
		}
	}
	if _, err := m.Call(t.Context(), toolCall(modernParams), nil); !errors.Is(err, upstream.ErrNotSent) || !errors.Is(err, upstream.ErrClosed) {
		t.Error(err)
	}
}
