package transports

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// FuzzPort sends bytes to the port that every transport shares: whatever they are, the connection ends once we ended
// our half, and what comes back is HTTP or one JSON-RPC message a line.
func FuzzPort(f *testing.F) {
	for _, seed := range []string{
		"", "{", initialize + "\n" + slowCall + "\n", "[" + initialize + "]\n", "GET /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\n\n{\x00}", "\x16\x03\x01\x02\x00", "POST /messages HTTP/1.0\r\nContent-Length: 1\r\n\r\n{",
	} {
		f.Add([]byte(seed))
	}
	s := newSite(f, options{maxBody: 16 << 10, idle: time.Second})
	f.Fuzz(func(t *testing.T, sent []byte) {
		answer := exchange(t, s, sent)
		if len(sent) == 0 || sent[0] != '{' {
			if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
				t.Errorf("%q was answered %q", sent, answer)
			}
			return
		}
		for line := range bytes.Lines(answer) {
			if line[len(line)-1] == '\n' && jsonrpc.Check(line) != nil {
				t.Errorf("%q was answered %q", sent, line)
			}
		}
	})
}

// FuzzFrames sends bytes as a WebSocket's frames: whatever they are, the connection ends once we ended our half.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"", "\x81\x82\x00\x00\x00\x00{}", "\x82\x80\x00\x00\x00\x00", "\x88\x80\x00\x00\x00\x00", "\x89\xfe\x00\x00\x00\x00\x00\x00",
		"\x01\x81\x00\x00\x00\x00{\x80\x81\x00\x00\x00\x00}", "\x81\xff\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	s := newSite(f, options{maxBody: 16 << 10, idle: time.Second})
	const request = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	f.Fuzz(func(t *testing.T, sent []byte) {
		if answer := exchange(t, s, append([]byte(request), sent...)); !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
			t.Errorf("the upgrade was answered %q", answer)
		}
	})
}

// exchange sends bytes and ends its half, and returns all that came back. A connection that was reset came to its end
// too.
func exchange(t *testing.T, s *site, sent []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", s.gateways[0].api)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	_, _ = c.Write(sent) // it may be refused before it is all there
	_ = c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q keeps the connection open", sent)
	}
	return answer
}
