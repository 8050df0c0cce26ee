package system

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"erlmcp.dev/test/cluster"
)

// What goes over Streamable HTTP is counted as on the other transports: connections, and messages each way.
func TestStreamableHTTPIsCounted(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, up.URL(""), strings.NewReader(discover))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "server/discover"} {
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	_, text, err := up.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`erlmcp_transport_connections_total{transport="http"} 1`,
		`erlmcp_transport_messages_received_total{transport="http"} 3`,
		`erlmcp_transport_messages_sent_total{transport="http"} 3`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "erlmcp_memory_ets 0\n") {
		t.Error("the catalogue takes no memory")
	}
}
