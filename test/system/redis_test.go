package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// pauses are how long calls of one kind took at most.
type pauses struct {
	mu      sync.Mutex
	longest map[string]time.Duration
	calls   map[string]int
	failed  []error
}

// repeat makes calls of a kind until ctx ends.
func (p *pauses) repeat(ctx context.Context, kind string, call func() error) {
	for ctx.Err() == nil {
		began := time.Now()
		err := call()
		took := time.Since(began)
		p.mu.Lock()
		p.calls[kind]++
		p.longest[kind] = max(p.longest[kind], took)
		if err != nil {
			p.failed = append(p.failed, fmt.Errorf("%s after %s: %w", kind, took, err))
		}
		p.mu.Unlock()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// waits are how long something takes at most while Redis fails over, as docs/reliability.md has it.
var waits = map[string]time.Duration{
	"list": 100 * time.Millisecond, "sessionless call": 100 * time.Millisecond, "session call": 100 * time.Millisecond,
	"logged session call": 2200*time.Millisecond + loggedWork, "open stream": 2200 * time.Millisecond, "admin write": 100 * time.Millisecond,
	"new session": 4 * time.Second,
}

// loggedWork is how long test_tool_with_logging takes.
const loggedWork = 100 * time.Millisecond

// numbers are what a server says outside of calls to the client that it has, one each 50 ms, and what the client heard.
type numbers struct {
	server *mcp.Server
	mu     sync.Mutex
	said   []time.Time // when number i+1 was
	heard  []int
	latest time.Duration
}

func (n *numbers) serve(t *testing.T) (url string) {
	n.server = mcp.NewServer(&mcp.Implementation{Name: "numbers", Version: "1"}, nil)
	mcp.AddTool(n.server, &mcp.Tool{Name: "nothing"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	site := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return n.server }, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}))
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	return site.URL
}

// listen makes the client.
func (n *numbers) listen(t *testing.T, url string) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{LoggingMessageHandler: n.hear})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	if err := callSimple(t.Context(), session, "nothing"); err != nil {
		t.Fatal(err)
	}
	if err := session.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "info"}); err != nil {
		t.Fatal(err)
	}
}

func (n *numbers) hear(_ context.Context, r *mcp.LoggingMessageRequest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number, _ := r.Params.Data.(float64)
	n.heard = append(n.heard, int(number))
	if i := int(number); i > 0 && i <= len(n.said) {
		n.latest = max(n.latest, time.Since(n.said[i-1]))
	}
}

// say says numbers until ctx ends.
func (n *numbers) say(ctx context.Context) {
	for ctx.Err() == nil {
		n.mu.Lock()
		n.said = append(n.said, time.Now())
		number := len(n.said)
		n.mu.Unlock()
		for session := range n.server.Sessions() {
			_ = session.Log(context.WithoutCancel(ctx), &mcp.LoggingMessageParams{Level: "info", Data: number}) // it is kept
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// missing says what was heard otherwise than once and in order; nil for nothing.
func (n *numbers) missing() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, heard := range n.heard {
		if heard != i+1 {
			return fmt.Errorf("number %d came in place %d", heard, i+1)
		}
	}
	if len(n.heard) != len(n.said) {
		return fmt.Errorf("%d numbers were heard, and %d said", len(n.heard), len(n.said))
	}
	return nil
}

// putView makes a view.
func putView(ctx context.Context, c *cluster.Cluster) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+c.API.Address()+"/api/v1/views/v", strings.NewReader(`{"servers":["legacy"]}`))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// The primary that has the leases and the list of sessions is killed: everything goes on, but for new sessions, which wait
// for the replica, and the records are there when an owner dies afterwards.
func TestSessionsGoOnWhenTheirRedisFailsOver(t *testing.T) {
	for _, kind := range []cluster.RedisKind{cluster.RedisSentinel, cluster.RedisCluster} {
		t.Run(string(kind), func(t *testing.T) {
			legacy, modern, open := cluster.RunFixtures(t, fixtures, "legacy"), cluster.RunFixtures(t, fixtures, "modern"), &numbers{}
			config := fmt.Sprintf("servers:\n  - {name: legacy, url: %q, prefix: \"\"}\n  - {name: modern, url: %q}\n  - {name: numbers, url: %q}\n", legacy.URL, modern.URL, open.serve(t))
			c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config}, cluster.Layout{Redis: kind})
			for _, g := range c.Gateways {
				awaitServers(t, place{rest: cluster.Address(g.Ports.API)}, 3)
			}

			load, stop := context.WithCancel(t.Context())
			defer stop()
			seen := &pauses{longest: map[string]time.Duration{}, calls: map[string]int{}}
			var running sync.WaitGroup
			defer running.Wait()
			defer stop()
			var sessions []*mcp.ClientSession
			for i := range 6 {
				session, _ := listener(t, c.URL(""))
				sessions = append(sessions, session)
				column, tool := "session call", "test_simple_text"
				if i%3 == 0 { // it sends messages before its result, which go to the log
					column, tool = "logged session call", "test_tool_with_logging"
				}
				running.Go(func() {
					seen.repeat(load, column, func() error {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
						defer cancel()
						_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool})
						return err
					})
				})
			}
			running.Go(func() {
				seen.repeat(load, "new session", func() error {
					resp, err := post(t.Context(), c.URL(""), "", opening)
					if err != nil {
						return err
					}
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						return fmt.Errorf("%s", resp.Status)
					}
					return nil
				})
			})
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			sessionless, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: c.URL("modern")}, &mcp.ClientSessionOptions{ProtocolVersion: "2026-07-28"})
			if err != nil {
				t.Fatal(err)
			}
			defer sessionless.Close()
			running.Go(func() {
				seen.repeat(load, "sessionless call", func() error { return callSimple(t.Context(), sessionless, "test_simple_text") })
			})
			running.Go(func() {
				seen.repeat(load, "list", func() error {
					tools, err := sessionless.ListTools(t.Context(), nil)
					if err == nil && len(tools.Tools) == 0 {
						err = errors.New("no tools")
					}
					return err
				})
			})
			running.Go(func() { seen.repeat(load, "admin write", func() error { return putView(t.Context(), c) }) })
			open.listen(t, c.URL("numbers"))
			saying, enough := context.WithCancel(t.Context())
			defer enough()
			running.Go(func() { open.say(saying) })
			const leases = "erlmcp:session:{directory}:ids"
			killed, err := c.RedisSet.Primary(t.Context(), leases)
			if err != nil {
				t.Fatal(err)
			}
			killed.Kill()
			began := time.Now()
			testkit.Eventually(t, func() error {
				primary, err := c.RedisSet.Primary(t.Context(), leases)
				if err == nil && primary == killed {
					err = fmt.Errorf("the killed one answers")
				}
				return err
			}, 20*time.Second)
			took := time.Since(began)
			if _, status := openRaw(t, c.URL("")); status != http.StatusOK {
				t.Errorf("a new session after the failover: %d", status)
			}
			enough()
			testkit.Eventually(t, open.missing, 20*time.Second)
			seen.mu.Lock()
			seen.longest["open stream"], seen.calls["open stream"] = open.latest, len(open.heard)
			for kind, after := range waits {
				if most := 2*after + time.Second; seen.longest[kind] > most || seen.calls[kind] == 0 {
					t.Errorf("%s: %d times, %v at most; want %v at most", kind, seen.calls[kind], seen.longest[kind], most)
				}
			}
			t.Logf("the replica took over after %s; the longest calls: %v; calls: %v", took.Round(time.Millisecond), seen.longest, seen.calls)
			seen.mu.Unlock()
			c.Sessions[0].Kill() // what it had is in the replica only
			for _, session := range sessions {
				if err := callSimple(t.Context(), session, "test_simple_text"); err != nil {
					t.Errorf("after the owner died too: %v", err)
				}
			}
			stop()
			running.Wait()
			for _, err := range seen.failed {
				t.Error(err)
			}
		})
	}
}
