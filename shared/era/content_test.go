package era_test

import (
	"encoding/json"
	"testing"

	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/mcp"
)

func TestOlderClientsGetContentThatTheyKnow(t *testing.T) {
	const (
		sound = `{"type":"audio","data":"AA==","mimeType":"audio/wav","annotations":{"priority":1}}`
		link  = `{"type":"resource_link","uri":"file:///a","name":"a","title":"The \"A\""}`
		text  = `{"type":"text","text":"audio", "n":1.0}`

		saidSound = `{"type":"text","text":"Audio (audio/wav), which this client's revision of the protocol can't carry.","annotations":{"priority":1}}`
		saidLink  = `{"type":"text","text":"The \"A\": file:///a"}`
	)
	for _, test := range []struct{ method, version, result, want string }{
		{mcp.MethodToolsCall, mcp.V2024_11_05, `{"content":[` + text + `,` + sound + `, ` + link + `],"isError":false}`, `{"content":[` + text + `,` + saidSound + `,` + saidLink + `],"isError":false}`},
		{mcp.MethodToolsCall, mcp.V2025_03_26, `{"content":[` + sound + `,` + link + `]}`, `{"content":[` + sound + `,` + saidLink + `]}`},
		{mcp.MethodToolsCall, mcp.V2025_06_18, `{"content":[` + sound + `, ` + link + `]}`, `{"content":[` + sound + `, ` + link + `]}`},
		{mcp.MethodToolsCall, mcp.V2024_11_05, `{"content":[{"type": "text"}]}`, `{"content":[{"type": "text"}]}`},
		{mcp.MethodToolsCall, mcp.V2024_11_05, `{"content":"audio"}`, `{"content":"audio"}`},
		{mcp.MethodPromptsGet, mcp.V2024_11_05, `{"messages":[{"role":"user","content":` + sound + `},{"role":"user", "content":` + text + `}]}`, `{"messages":[{"role":"user","content":` + saidSound + `},{"role":"user", "content":` + text + `}]}`},
		{mcp.MethodResourcesRead, mcp.V2024_11_05, `{"contents":[` + sound + `]}`, `{"contents":[` + sound + `]}`},
	} {
		if got := era.ResultForRevision(test.method, test.version, json.RawMessage(test.result)); string(got) != test.want {
			t.Errorf("%s at %s: %s became\n%s, want\n%s", test.method, test.version, test.result, got, test.want)
		}
	}
}
