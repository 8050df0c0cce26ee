package mcp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

func TestToolsThatMustNotBeShown(t *testing.T) {
	deep := func(n int) string {
		return strings.Repeat(`{"type":"object","properties":{"a":`, n) + `{"type":"string","x-mcp-header":"A"}` + strings.Repeat(`}}`, n)
	}
	for _, test := range []struct {
		name, schema string
		fine         bool
	}{
		{"a", `{}`, true},
		{"A-z_0.9/x", `{}`, true},
		{strings.Repeat("x", 128), `{}`, true},
		{strings.Repeat("x", 129), `{}`, false},
		{"", `{}`, false},
		{"a b", `{}`, false},
		{"é", `{}`, false},
		{"a\n", `{}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":"Region"},"b":{"type":"integer","x-mcp-header":"N"},"c":{"type":"boolean","x-mcp-header":"B"}}}`, true},
		{"t", `{"properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"Region"}}}}}`, true},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":"Region"},"b":{"type":"string","x-mcp-header":"rEGION"}}}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nb"}}}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":"a:b"}}}`, false},
		{"t", `{"properties":{"a":{"type":"string","x-mcp-header":7}}}`, false},
		{"t", `{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`, false},
		{"t", `{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}`, false},
		{"t", `{"properties":{"a":{"x-mcp-header":"A"}}}`, false},
		{"t", `{"x-mcp-header":"A"}`, false},
		{"t", `{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}`, false},
		{"t", `{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`, false},
		{"t", `{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}`, false},
		{"t", `{"properties":{"x-mcp-header":{"type":"string"}}}`, true},
		{"t", `{"properties":{"x-mcp-header":{"type":"string","x-mcp-header":"X"}}}`, true},
		{"t", `{"properties":{"a":{"enum":["x-mcp-header"],"default":"x-mcp-header","description":"the \"x-mcp-header\" of"}},"required":["x-mcp-header"]}`, true},
		{"t", deep(15), true},
		{"t", deep(60), false},
	} {
		var tool jsonrpc.Object
		tool.Set("name", jsonrpc.String(test.name))
		tool.Set("inputSchema", json.RawMessage(test.schema))
		if err := mcp.CheckTool(tool.JSON()); (err == nil) != test.fine {
			t.Errorf("%q %s: %v", test.name, test.schema, err)
		}
	}
	if mcp.CheckTool(json.RawMessage(`{"name":7}`)) == nil || mcp.CheckTool(json.RawMessage(`[]`)) == nil {
		t.Error("a tool without a name was taken")
	}
}

func TestHeaderParamsLeadToTheirArguments(t *testing.T) {
	got := mcp.HeaderParams(json.RawMessage(`{"properties":{"z":{"type":"string","x-mcp-header":"Z"},"a":{"properties":{"b":{"type":"integer","x-mcp-header":"B"}}}}}`))
	want := []mcp.HeaderParam{{Header: "Z", Path: []string{"z"}, Type: "string"}, {Header: "B", Path: []string{"a", "b"}, Type: "integer"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInitializeIsAnsweredWithARevisionThatIsKnown(t *testing.T) {
	for asked, want := range map[string]string{"2024-11-05": "2024-11-05", "2025-11-25": "2025-11-25", "2026-07-28": "2025-11-25", "": "2025-11-25", "x": "2025-11-25"} {
		if got := mcp.NegotiateLegacy(asked); got != want {
			t.Errorf("%q: %q, want %q", asked, got, want)
		}
	}
}

func TestNotFoundSpeaksTheClientsEra(t *testing.T) {
	for modern, code := range map[bool]int64{false: -32002, true: -32602} {
		if e := mcp.NotFound(modern, `a"b`); e.Code != code || string(e.Data) != `{"uri":"a\"b"}` {
			t.Errorf("%d %s", e.Code, e.Data)
		}
	}
}

func TestInitializeParamsHaveWhatTheClientLacks(t *testing.T) {
	got := mcp.InitializeParams("2025-11-25", nil, nil)
	if jsonrpc.Check(got) != nil || string(jsonrpc.Get(got, "capabilities")) != `{}` || jsonrpc.Get(got, "clientInfo", "name") == nil {
		t.Errorf("%s", got)
	}
}

// FuzzCheckTool: whatever a server offers is judged, and what is found fit can be sent as headers.
func FuzzCheckTool(f *testing.F) {
	f.Add([]byte(`{"name":"a","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`))
	f.Add([]byte(`{"name":"a","inputSchema":{"properties":{"a":[{"x-mcp-header":{}}]},"$defs":7}}`))
	f.Fuzz(func(t *testing.T, tool []byte) {
		if jsonrpc.Check(tool) != nil || mcp.CheckTool(tool) != nil {
			return
		}
		for _, p := range mcp.HeaderParams(jsonrpc.Get(tool, "inputSchema")) {
			if p.Header == "" || strings.ContainsAny(p.Header, " \r\n\t:") || len(p.Path) == 0 {
				t.Errorf("%+v", p)
			}
		}
	})
}
