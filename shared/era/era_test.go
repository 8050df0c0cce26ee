package era_test

import (
	"encoding/json"
	"testing"

	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
)

const metadata = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":`

func TestRequestsBecomeModern(t *testing.T) {
	for _, test := range []struct {
		params string
		client era.Client
		want   string
	}{
		{"", era.Client{}, `{"_meta":{` + metadata + `{}}}`},
		{`{"name":"x","arguments":{"big": 12345678901234567890},"_meta":{"progressToken":1.0}}`, era.Client{Capabilities: json.RawMessage(`{"roots":{}}`), Info: json.RawMessage(`{"name":"c"}`), LogLevel: "info"},
			`{"name":"x","arguments":{"big": 12345678901234567890},"_meta":{"progressToken":1.0,` + metadata + `{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/logLevel":"info"}}`},
		{`{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}`, era.Client{}, `{"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`},
		{`{"_meta":7}`, era.Client{}, `{"_meta":{` + metadata + `{}}}`},
	} {
		if got := era.RequestToModern(raw(test.params), test.client); string(got) != test.want {
			t.Errorf("%s became\n%s, want\n%s", test.params, got, test.want)
		}
	}
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func TestRequestsBecomeLegacy(t *testing.T) {
	for params, want := range map[string]string{
		"": "",
		`{"name":"x","inputResponses":{},"requestState":"s","_meta":{` + metadata + `{},"io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/logLevel":"info"}}`: `{"name":"x"}`,
		`{"a":{"_meta":{"progressToken":"inner"}, "n":1e400},"_meta":{` + metadata + `{},"progressToken":"t","traceparent":"00"}}`:                                           `{"a":{"_meta":{"progressToken":"inner"}, "n":1e400},"_meta":{"progressToken":"t","traceparent":"00"}}`,
	} {
		if got := era.RequestToLegacy(raw(params)); string(got) != want {
			t.Errorf("%s became %s, want %s", params, got, want)
		}
	}
}

func TestALegacyRequestComesBackFromTheModernEra(t *testing.T) {
	params := `{"name":"x","arguments":{"u":"\u00e9é", "n":1.10},"_meta":{"progressToken":"t"}}`
	if got := era.RequestToLegacy(era.RequestToModern(json.RawMessage(params), era.Client{LogLevel: "debug"})); string(got) != params {
		t.Error(string(got))
	}
}

func TestResultsBecomeModern(t *testing.T) {
	info := json.RawMessage(`{"name":"s"}`)
	for _, test := range []struct {
		method, result string
		info           json.RawMessage
		want           string
	}{
		{"tools/call", `{"content":[ ]}`, nil, `{"content":[ ],"resultType":"complete"}`},
		{"tools/call", `{"resultType":"task","taskId":"1"}`, info, `{"resultType":"task","taskId":"1","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}`},
		{"resources/read", `{"contents":[]}`, nil, `{"contents":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`},
		{"resources/read", `{"ttlMs":5,"cacheScope":"public","resultType":"complete"}`, nil, `{"ttlMs":5,"cacheScope":"public","resultType":"complete"}`},
		{"tools/call", `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"own"}}}`, info, `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"own"}}}`},
		{"tools/call", `7`, info, `7`},
	} {
		if got := era.ResultToModern(test.method, json.RawMessage(test.result), test.info); string(got) != test.want {
			t.Errorf("%s became %s, want %s", test.result, got, test.want)
		}
	}
}

func TestErrorCodesAreTheErasOwn(t *testing.T) {
	for _, test := range []struct{ e, want string }{
		{`{"code":-32002,"message":"m","data":{"uri":"u"}}`, `{"code":-32602,"message":"m","data":{"uri":"u"}}`},
		{`{"code":-32042,"message":"m"}`, `{"code":-32603,"message":"m"}`},
		{`{"code": -32601 ,"message":"m"}`, `{"code": -32601 ,"message":"m"}`},
	} {
		if got := era.ErrorToModern(json.RawMessage(test.e)); string(got) != test.want {
			t.Errorf("%s became %s, want %s", test.e, got, test.want)
		}
	}
	for _, test := range []struct{ method, e, want string }{
		{"resources/read", `{"code":-32602,"message":"m","data":{"uri":"u"}}`, `{"code":-32002,"message":"m","data":{"uri":"u"}}`},
		{"resources/read", `{"code":-32602,"message":"m"}`, `{"code":-32602,"message":"m"}`},
		{"tools/call", `{"code":-32602,"message":"m","data":{"uri":"u"}}`, `{"code":-32602,"message":"m","data":{"uri":"u"}}`},
	} {
		if got := era.ErrorToLegacy(test.method, json.RawMessage(test.e)); string(got) != test.want {
			t.Errorf("%s %s became %s, want %s", test.method, test.e, got, test.want)
		}
	}
}

func TestInputRequired(t *testing.T) {
	for result, want := range map[string]bool{`{"resultType":"input_required"}`: true, `{"resultType":"complete"}`: false, `{}`: false, `[]`: false, `{"resultType":1}`: false} {
		if got := era.InputRequired(json.RawMessage(result)); got != want {
			t.Errorf("%s: %v", result, got)
		}
	}
}

// FuzzRoundTrip: whatever a legacy client sends, the modern era gets valid JSON with its metadata, and the arguments
// as they came.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(`{"arguments":{"a":1.0},"_meta":{"progressToken":1}}`))
	f.Add([]byte(`{"_meta":[],"\u0061rguments":7}`))
	f.Fuzz(func(t *testing.T, params []byte) {
		if jsonrpc.Check(params) != nil || params[0] != '{' {
			return
		}
		modern := era.RequestToModern(params, era.Client{})
		if err := jsonrpc.Check(modern); err != nil && len(params) < 1000 {
			t.Fatalf("%s: %v", modern, err)
		}
		if version, _ := jsonrpc.GetString(modern, "_meta", "io.modelcontextprotocol/protocolVersion"); version != "2026-07-28" {
			t.Errorf("%s", modern)
		}
		if before, after := jsonrpc.Get(params, "arguments"), jsonrpc.Get(era.RequestToLegacy(modern), "arguments"); string(before) != string(after) {
			t.Errorf("%s became %s", before, after)
		}
	})
}
