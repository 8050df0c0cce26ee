package system

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// secure is erlmcp with TLS towards clients.
type secure struct {
	*cluster.Node
	trust  *tls.Config
	client *http.Client
	cert   string // the certificate's file
}

func runSecure(t *testing.T) secure {
	t.Helper()
	dir := t.TempDir()
	cert, key := testkit.CertificateFiles(t, dir)
	node := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_HTTPS_CERT=" + cert, "ERLMCP_HTTPS_KEY=" + key}})
	s := secure{Node: node, cert: cert, trust: &tls.Config{RootCAs: authorities(t, cert), MinVersion: tls.VersionTLS12}}
	transport := &http.Transport{TLSClientConfig: s.trust, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	return s
}

func authorities(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate:", err)
	}
	return pool
}

func TestEveryClientPortSpeaksTLS(t *testing.T) {
	s := runSecure(t)
	t.Run("Streamable HTTP", func(t *testing.T) {
		for _, port := range []int{s.Ports.HTTP, s.Ports.API} {
			testkit.Eventually(t, func() error { // the demo's tools are found out meanwhile
				client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil) // each keeps what it listed
				session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "https://" + cluster.Address(port) + "/mcp", HTTPClient: s.client}, nil)
				if err != nil {
					return err
				}
				defer session.Close()
				tools, err := session.ListTools(t.Context(), nil)
				if err == nil && len(tools.Tools) == 0 {
					err = errors.New("no tools")
				}
				return err
			}, 10*time.Second)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		resp := s.get(t, "https://"+cluster.Address(s.Ports.HTTP)+"/mcp")
		if resp.ProtoMajor != 2 {
			t.Errorf("the answer came over %s", resp.Proto)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		ws, _, err := websocket.Dial(t.Context(), "wss://"+cluster.Address(s.Ports.WS)+"/ws", &websocket.DialOptions{HTTPClient: s.client})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(ping)); err != nil {
			t.Fatal(err)
		}
		if _, answer, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(answer), `"id":7`) {
			t.Errorf("%s, %v", answer, err)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		conn, err := tls.Dial("tcp", cluster.Address(s.Ports.API), s.trust)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, ping+"\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(answer, `"id":7`) {
			t.Errorf("%s, %v", answer, err)
		}
	})
	t.Run("HTTP+SSE", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+cluster.Address(s.Ports.SSE)+"/sse", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "event: endpoint") {
			t.Errorf("%q, %v", line, err)
		}
	})
	t.Run("plain text is refused", func(t *testing.T) {
		for _, port := range []int{s.Ports.API, s.Ports.HTTP, s.Ports.WS, s.Ports.SSE} {
			resp := s.get(t, "http://"+cluster.Address(port)+"/mcp")
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("port %d answers %d", port, resp.StatusCode)
			}
		}
	})
}

// ping is answered by every transport whose connection is a session.
const ping = `{"jsonrpc":"2.0","id":7,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

func (s secure) get(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestARenewedCertificateIsTakenUp(t *testing.T) {
	s := runSecure(t)
	shown := func() *x509.Certificate {
		conn, err := tls.Dial("tcp", cluster.Address(s.Ports.HTTP), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is compared below
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	old := shown()
	if err := os.WriteFile(s.cert, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error { // refused, and said once
		if !shown().Equal(old) {
			return errors.New("the certificate changed to nothing")
		}
		if !strings.Contains(s.Log(), "the one before goes on") {
			return errors.New("the log says nothing of it")
		}
		return nil
	}, 10*time.Second)
	testkit.CertificateFiles(t, strings.TrimSuffix(s.cert, "/tls.crt"))
	testkit.Eventually(t, func() bool { return !shown().Equal(old) }, 10*time.Second)
	want := authorities(t, s.cert)
	if _, err := shown().Verify(x509.VerifyOptions{Roots: want}); err != nil {
		t.Error(err)
	}
}
