package transports

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/testkit"
)

// revocable knows one token until it is revoked, and counts how often it was asked.
type revocable struct {
	revoked atomic.Bool
	asked   atomic.Int64
}

func (k *revocable) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	k.asked.Add(1)
	if bearer != "key" || k.revoked.Load() {
		return access.Principal{}, access.ErrUnauthenticated
	}
	return access.Principal{ID: "someone"}, nil
}

// An event stream is open for longer than a credential may be good. WebSockets and TCP: package channel.
func TestAnEventStreamEndsWithItsCredential(t *testing.T) {
	modern := map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
	for name, c := range map[string]struct {
		method, path, body string
		header             map[string]string
		session            bool
	}{
		"the standing stream of a session": {method: http.MethodGet, path: "/mcp", session: true},
		"a modern subscription":            {method: http.MethodPost, path: "/mcp", body: modernWatch, header: modern},
		"HTTP+SSE":                         {method: http.MethodGet, path: "/sse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := &revocable{}
			s := newSite(t, options{authn: key, recheck: 20 * time.Millisecond})
			client := &http.Client{Transport: &http.Transport{}}
			t.Cleanup(client.CloseIdleConnections)
			ask := func(method, path, body string, header map[string]string) *http.Response {
				r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.gateways[0].api+path, strings.NewReader(body))
				must(t, err)
				r.Header.Set("Authorization", "Bearer key")
				r.Header.Set("Accept", "application/json, text/event-stream")
				if body != "" {
					r.Header.Set("Content-Type", "application/json")
				}
				for k, v := range header {
					r.Header.Set(k, v)
				}
				response, err := client.Do(r)
				must(t, err)
				t.Cleanup(func() { _ = response.Body.Close() })
				return response
			}
			header := c.header
			if c.session {
				header = map[string]string{"Mcp-Session-Id": ask(http.MethodPost, "/mcp", initialize, nil).Header.Get("Mcp-Session-Id")}
			}
			stream := ask(c.method, c.path, c.body, header)
			if kind := stream.Header.Get("Content-Type"); stream.StatusCode != http.StatusOK || kind != "text/event-stream" {
				t.Fatalf("answered %s, %s", stream.Status, kind)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, stream.Body)
				ended <- err
			}()
			asked := key.asked.Load()
			testkit.Eventually(t, func() error {
				if now := key.asked.Load(); now < asked+3 {
					return fmt.Errorf("asked %d times more", now-asked)
				}
				return nil
			}, patience)
			select {
			case err := <-ended:
				t.Fatalf("it ended with a good credential: %v", err)
			default:
			}
			key.revoked.Store(true)
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("it goes on with a revoked credential")
			}
		})
	}
}
