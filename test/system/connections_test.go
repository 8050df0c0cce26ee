package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// All ports together take as many connections as ERL_MAX_PORTS says; one more is told so at once.
func TestConnectionsAreBounded(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERL_MAX_PORTS=4"}})
	var open []net.Conn
	for _, port := range []int{up.Ports.API, up.Ports.HTTP, up.Ports.WS, up.Ports.SSE} {
		c := dialPort(t, port)
		// Each port accepts for itself: only an answer tells that this one took its place before the next are dialled.
		askPort(t, c)
		open = append(open, c)
	}
	for _, port := range []int{up.Ports.API, up.Ports.HTTP, up.Ports.WS, up.Ports.SSE} {
		answer, body := askPort(t, dialPort(t, port))
		if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "too many connections") {
			t.Errorf("one more connection was answered %d %s", answer.StatusCode, body)
		}
	}
	if status, _, err := up.Get(t.Context(), "/ready"); err != nil || status != http.StatusOK {
		t.Errorf("probes get %d, %v", status, err)
	}
	for _, c := range open {
		_ = c.Close()
	}
	testkit.Eventually(t, func() error {
		if status, _ := listTools(t, up.URL(""), ""); status != http.StatusOK {
			return fmt.Errorf("once the others were closed: %d", status)
		}
		return nil
	}, 10*time.Second)
	if n := strings.Count(up.Log(), "connections are refused"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

// askPort sends a request over a connection, and leaves the connection open behind its answer.
func askPort(t *testing.T, c net.Conn) (*http.Response, []byte) {
	t.Helper()
	if _, err := io.WriteString(c, "GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, body
}

func dialPort(t *testing.T, port int) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", cluster.Address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// A principal has so many connections at a gateway, over all transports together, and takes no place of others.
func TestConnectionsOfAPrincipalAreBounded(t *testing.T) {
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true", "ERLMCP_MAX_CONNECTIONS_PER_PRINCIPAL=2"}})
	admin := firstKey(t, dir, "up")
	alice, bob := makeKey(t, up, admin, "alice"), makeKey(t, up, admin, "bob")
	as := func(key string) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + key}}}
	}
	url := "ws://" + cluster.Address(up.Ports.WS) + "/ws"
	testkit.Eventually(t, func() error {
		status, _ := listTools(t, up.URL(""), alice)
		if status != http.StatusOK {
			return fmt.Errorf("a fresh key: %d", status)
		}
		return nil
	}, 10*time.Second)

	var first *websocket.Conn
	for range 2 {
		ws, _, err := websocket.Dial(t.Context(), url, as(alice))
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		first = ws
	}
	if ws, response, err := websocket.Dial(t.Context(), url, as(alice)); err == nil || response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a third WebSocket: %v, %v", ws, err)
	}
	if status, _ := listTools(t, up.URL(""), alice); status != http.StatusTooManyRequests {
		t.Errorf("a request beside two connections: %d", status)
	}
	stream, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster.Address(up.Ports.SSE)+"/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Authorization", "Bearer "+alice)
	if response, err := http.DefaultClient.Do(stream); err != nil || response.StatusCode != http.StatusTooManyRequests || response.Body.Close() != nil {
		t.Errorf("an SSE stream: %v, %v", response, err)
	}
	tcp := dialPort(t, up.Ports.API)
	if _, err := io.WriteString(tcp, `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":{"dev.erlmcp/authorization":"Bearer `+alice+`"}}}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(tcp).ReadString('\n'); err != nil || !strings.Contains(line, "too many connections") || !strings.Contains(line, `"id":7`) {
		t.Errorf("over TCP: %q, %v", line, err)
	}

	if status, _ := listTools(t, up.URL(""), bob); status != http.StatusOK {
		t.Errorf("another principal: %d", status)
	}
	_ = first.CloseNow()
	testkit.Eventually(t, func() error {
		if status, _ := listTools(t, up.URL(""), alice); status != http.StatusOK {
			return fmt.Errorf("once one was closed: %d", status)
		}
		return nil
	}, 10*time.Second)
}

// Whoever begins a request and does not go on holds no connection for ever, at whichever port, known or not.
func TestARequestThatDoesNotComeIsGivenUp(t *testing.T) {
	t.Parallel()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	conns := map[string]net.Conn{}
	for name, port := range map[string]int{
		"api": up.Ports.API, "http": up.Ports.HTTP, "ws": up.Ports.WS, "sse": up.Ports.SSE, "health": up.Ports.Health, "metrics": up.Ports.Metrics,
	} {
		for what, begun := range map[string]string{
			"a body": "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "a header": "GET / HTTP/1.1\r\nHost: ",
			"much of a header": "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 80<<10),
		} {
			c := dialPort(t, port)
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(c, begun); err != nil {
				t.Fatal(err)
			}
			conns[name+": "+what] = c
		}
	}
	for what, c := range conns {
		var late net.Error
		if _, err := io.ReadAll(c); errors.As(err, &late) && late.Timeout() { // a reset is an end too
			t.Errorf("%s is waited for: %v", what, err)
		}
	}
}
