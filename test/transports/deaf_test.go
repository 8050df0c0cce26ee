package transports

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// Over HTTP too a client that asks and does not read is ended, and nobody else notices.
func TestADeafHTTPClientIsEndedAlone(t *testing.T) {
	s := newSite(t, options{writeTimeout: 300 * time.Millisecond})
	fine := newClient(t, dialHTTP(t, s.at(), ""), mcp.V2026_07_28)
	deaf, err := net.Dial("tcp", s.gateways[0].api)
	must(t, err)
	defer deaf.Close()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modernMeta + `}}`
	request := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	expectEnd(t, fine, func() error {
		_, err := io.WriteString(deaf, request)
		return err
	})
	testkit.Eventually(t, func() bool { return s.gateways[0].open() == 0 }, patience)
}

// An event stream that nobody reads ends, and its session waits for its client to come back.
func TestADeafEventStreamIsEndedAlone(t *testing.T) {
	s := newSite(t, options{writeTimeout: 300 * time.Millisecond})
	fine := newClient(t, dialTCP(t, s.at(), ""), mcp.V2026_07_28)
	stream, err := net.Dial("tcp", s.gateways[0].api)
	must(t, err)
	defer stream.Close()
	_, err = io.WriteString(stream, "GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
	must(t, err)
	var head strings.Builder
	for buffer := make([]byte, 1024); !strings.Contains(head.String(), "\n\n"); {
		n, err := stream.Read(buffer)
		must(t, err)
		head.Write(buffer[:n])
	}
	_, endpoint, _ := strings.Cut(head.String(), "data: ")
	endpoint, _, _ = strings.Cut(endpoint, "\n")
	say := func(message string) error {
		response, err := http.Post("http://"+s.gateways[0].api+strings.TrimSpace(endpoint), "application/json", strings.NewReader(message))
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.Body.Close()
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	must(t, say(initialize))
	expectEnd(t, fine, func() error {
		if s.gateways[0].open() == 0 {
			return io.EOF
		}
		return say(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	})
}

// expectEnd asks in the name of a deaf client until that fails, while another client is served.
func expectEnd(t *testing.T, fine *client, ask func() error) {
	t.Helper()
	ended := make(chan error, 1)
	late := time.Now().Add(patience)
	go func() {
		for time.Now().Before(late) {
			if err := ask(); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a client that does not read goes on")
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
		fine.call(mcp.MethodToolsList, `{}`)
	}
}
