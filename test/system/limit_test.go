package system

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/test/cluster"
)

const discover = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`

// The rate is shared by the gateways of a cluster, and by all transports.
func TestAPrincipalThatAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	rate := []string{"RATE_LIMIT_PER_SECOND=5"}
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: rate})
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Env: rate}, cluster.Layout{})
	for _, p := range []struct{ name, url, ws string }{
		{"up", up.URL(""), cluster.Address(up.Ports.WS)},
		{"cluster", many.URL(""), many.API.Address()},
	} {
		t.Run(p.name, func(t *testing.T) {
			var refused *http.Response
			var body []byte
			for range 100 { // far more than the rate allows in the time that this takes
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, strings.NewReader(discover))
				if err != nil {
					t.Fatal(err)
				}
				for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "server/discover"} {
					req.Header.Set(name, value)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != http.StatusOK {
					refused = resp
					break
				}
			}
			if refused == nil || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") != "1" {
				t.Fatalf("got %+v", refused)
			}
			var answer struct {
				ID    int
				Error struct {
					Code int
					Data map[string]int
				}
			}
			if err := json.Unmarshal(body, &answer); err != nil || answer.ID != 1 || answer.Error.Code != engine.CodeTooMany || answer.Error.Data[engine.RetryKey] < 1 {
				t.Errorf("%s, %v", body, err)
			}

			ws, _, err := websocket.Dial(t.Context(), "ws://"+p.ws+"/ws", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			for range 20 {
				if err := ws.Write(t.Context(), websocket.MessageText, []byte(discover)); err != nil {
					t.Fatal(err)
				}
				_, message, err := ws.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(message), engine.RetryKey) {
					return
				}
			}
			t.Error("over WebSocket nothing was refused")
		})
	}
}
