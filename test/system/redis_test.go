package system

import (
	"context"
	"fmt"
	"net/http"
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

// The primary that has the leases and the list of sessions is killed: sessions and calls go on, new sessions wait for the
// replica, and the records are there when an owner dies afterwards.
func TestSessionsGoOnWhenTheirRedisFailsOver(t *testing.T) {
	for _, kind := range []cluster.RedisKind{cluster.RedisSentinel, cluster.RedisCluster} {
		t.Run(string(kind), func(t *testing.T) {
			upstream := cluster.RunFixtures(t, fixtures, "legacy")
			config := "servers:\n  - {name: legacy, url: \"" + upstream.URL + "\", prefix: \"\"}\n"
			c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config}, cluster.Layout{Redis: kind})
			awaitServers(t, place{rest: cluster.Address(c.Gateways[0].Ports.API)}, 1)

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
				tool := "test_simple_text"
				if i%3 == 0 { // it sends messages before its result, which go to the log
					tool = "test_tool_with_logging"
				}
				running.Go(func() {
					seen.repeat(load, tool, func() error {
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
			t.Logf("the replica took over after %s; the longest calls: %v; calls: %v", took.Round(time.Millisecond), seen.longest, seen.calls)
		})
	}
}
