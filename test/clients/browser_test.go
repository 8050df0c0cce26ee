//go:build npm

package clients

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// page speaks MCP over a browser's own WebSocket, offers a key as browsers can, and posts what it saw.
const page = `<!doctype html><script>
const say = seen => fetch('/seen', {method: 'POST', body: JSON.stringify(seen)});
const ws = new WebSocket('WS', ['mcp', 'bearer.KEY']);
const call = (id, method, params) => ws.send(JSON.stringify({jsonrpc: '2.0', id, method, params}));
ws.onopen = () => call(1, 'initialize', {protocolVersion: '2025-11-25', capabilities: {}, clientInfo: {name: 'page', version: '1'}});
ws.onclose = e => say({closed: e.code});
ws.onmessage = e => {
  const m = JSON.parse(e.data);
  if (m.id === 1) {
    ws.send(JSON.stringify({jsonrpc: '2.0', method: 'notifications/initialized'}));
    call(2, 'tools/call', {name: 'test_simple_text'});
  }
  if (m.id === 2) say({protocol: ws.protocol, text: m.result.content[0].text});
};
</script>`

func TestABrowsersWebSocketIsServed(t *testing.T) {
	program := os.Getenv("ERLMCP_PROGRAM")
	if program == "" {
		t.Fatal("ERLMCP_PROGRAM is not set; run make clients")
	}
	chromium := testkit.Program(t, "chromium", "chromium")
	seen := make(chan string, 10)
	var ws, key string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/seen" {
			body, _ := io.ReadAll(r.Body)
			seen <- string(body)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, strings.NewReplacer("WS", ws, "KEY", key).Replace(page))
	}))
	t.Cleanup(site.Close)
	fixtures, err := cluster.BuildFixtures(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{
		Binary: program, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_ALLOWED_ORIGINS=" + site.URL},
		Config: "servers:\n  - {name: fixtures, prefix: \"\", url: \"" + cluster.RunFixtures(t, fixtures, "dual").URL + "\"}\n",
	})
	kept, err := os.ReadFile(dir + "/up/data/admin-key")
	if err != nil {
		t.Fatal(err)
	}
	ws, key = "ws://"+cluster.Address(up.Ports.WS)+"/ws", strings.TrimSpace(string(kept))
	testkit.Eventually(t, func() bool { // until the tool is there
		command := exec.CommandContext(t.Context(), program, "tools", "list", "--addr", cluster.Address(up.Ports.GRPC))
		command.Env = append(os.Environ(), "ERLMCP_API_KEY="+key)
		out, _ := command.Output()
		return strings.Contains(string(out), "test_simple_text")
	}, 30*time.Second)
	command := exec.CommandContext(t.Context(), chromium,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", site.URL)
	command.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	select {
	case body := <-seen:
		var saw struct{ Protocol, Text string }
		if err := json.Unmarshal([]byte(body), &saw); err != nil || saw.Protocol != "mcp" || saw.Text != Fixtures.Simple {
			t.Errorf("the page saw %s", body)
		}
	case <-time.After(time.Minute):
		t.Error("the page saw nothing")
	}
}
