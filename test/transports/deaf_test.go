package transports

import (
	"context"
	"errors"
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
	deaf := dialSmall(t, s.gateways[0].api)
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modernMeta + `}}`
	request := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	expectEnd(t, fine, func() error {
		// That the connection has ended may reach a kernel late which waits for room at its peer.
		err := deaf.SetWriteDeadline(time.Now().Add(2 * time.Second))
		if err == nil {
			_, err = io.WriteString(deaf, request)
		}
		return err
	})
	testkit.Eventually(t, func() bool { return s.gateways[0].open() == 0 }, patience)
}

// An event stream that nobody reads ends, and its session waits for its client to come back.
func TestADeafEventStreamIsEndedAlone(t *testing.T) {
	s := newSite(t, options{writeTimeout: 300 * time.Millisecond})
	fine := newClient(t, dialTCP(t, s.at(), ""), mcp.V2026_07_28)
	stream := dialSmall(t, s.gateways[0].api)
	_, err := io.WriteString(stream, "GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
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
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.gateways[0].api+strings.TrimSpace(endpoint), strings.NewReader(message))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(req)
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
		err := say(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil // as much waits for the client as may: a message waits for room
		}
		return err
	})
}

// dialSmall connects with little of the kernel's memory for what is not read, however much this machine has to give.
func dialSmall(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.(*net.TCPConn).SetReadBuffer(4096))
	return c
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
