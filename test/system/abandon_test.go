package system

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// metric reads one figure of a node's /metrics.
func metric(ctx context.Context, n *cluster.Node, name string) (float64, error) {
	_, body, err := n.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// use is what a gateway, an owner and their Redis take.
type use struct {
	gateway, owner float64 // bytes of heap
	routines       float64 // of both
	keys           int64
}

func (u use) String() string {
	return fmt.Sprintf("gateway %.1f MiB, owner %.1f MiB, %.0f goroutines, %d keys in Redis", u.gateway/(1<<20), u.owner/(1<<20), u.routines, u.keys)
}

func measure(ctx context.Context, c *cluster.Cluster, client *redis.Client) (u use, err error) {
	for i, n := range []*cluster.Node{c.Gateways[0], c.Sessions[0]} {
		heap, err := metric(ctx, n, "go_memstats_heap_alloc_bytes")
		if err != nil {
			return u, err
		}
		*[]*float64{&u.gateway, &u.owner}[i] = heap
		routines, err := metric(ctx, n, "go_goroutines")
		if err != nil {
			return u, err
		}
		u.routines += routines
	}
	u.keys, err = client.DBSize(ctx).Result()
	return u, err
}

// abandon opens a session, uses it as clients do, at a server that keeps a session too, and leaves without a word.
func abandon(ctx context.Context, url string, number int) error {
	resp, err := post(ctx, url, "", opening)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	session := resp.Header.Get("Mcp-Session-Id")
	if session == "" {
		return fmt.Errorf("initialize is answered %s", resp.Status)
	}
	messages := []string{
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"test_simple_text"}}`,
		`{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"test://watched-resource"}}`,
	}
	if number%10 == 0 { // it takes longer, so that it is logged
		messages = append(messages, `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"test_tool_with_logging"}}`)
	}
	for _, message := range messages {
		resp, err := post(ctx, url, session, message)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= http.StatusMultipleChoices {
			return fmt.Errorf("%s is answered %s", message, resp.Status)
		}
	}
	return nil
}

// Sessions that are never deleted cost nothing in the end, whether their owner ends them or died before: 2,000 of them,
// or as many as ERLMCP_ABANDON says.
func TestAbandonedSessionsLeaveNothingBehind(t *testing.T) {
	most := 2000
	if text := os.Getenv("ERLMCP_ABANDON"); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	upstream := cluster.RunFixtures(t, fixtures, "legacy")
	c := cluster.RunCluster(t, cluster.Erlmcp{
		Binary: erlmcp, Config: "servers:\n  - {name: legacy, url: \"" + upstream.URL + "\", prefix: \"\"}\n",
		// Garbage must not pass for memory in use: it is collected soon.
		Env: []string{"GOGC=10", "ERLMCP_SESSION_IDLE=4s", "ERLMCP_MAX_SESSIONS_PER_PRINCIPAL=1000000"},
	}, cluster.Layout{Gateways: 1, Sessions: 1})
	awaitServers(t, place{rest: cluster.Address(c.Gateways[0].Ports.API)}, 1)
	options, err := redis.ParseURL(c.Redis.DSN())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	round := func(from, to int) {
		group, ctx := errgroup.WithContext(t.Context())
		group.SetLimit(32)
		for i := from; i < to; i++ {
			group.Go(func() error { return abandon(ctx, c.URL(""), i) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	// gone waits until no session is left, nor what they took beyond a measure.
	gone := func(start *use) (u use) {
		testkit.Eventually(t, func() error {
			sessions, err := metric(t.Context(), c.Sessions[0], "erlmcp_sessions_active")
			if err == nil && sessions > 0 {
				err = fmt.Errorf("%.0f sessions are left", sessions)
			}
			if err != nil {
				return err
			}
			http.DefaultClient.CloseIdleConnections()
			countSessions(t, cluster.Address(c.Gateways[0].Ports.API)) // whoever lists sweeps
			u, err = measure(t.Context(), c, client)
			const noise = 4 << 20
			if err == nil && start != nil && (u.keys > start.keys || u.gateway > start.gateway+noise || u.owner > start.owner+noise || u.routines > start.routines+20) {
				err = fmt.Errorf("at the start: %s; now: %s", start, u)
			}
			return err
		}, 2*time.Minute)
		return u
	}
	round(0, 200) // what is made once is made before the start
	start := gone(nil)
	testkit.Eventually(t, func() error { // garbage and keys of the first round go too
		now, err := measure(t.Context(), c, client)
		smaller := now.keys < start.keys || now.gateway < start.gateway || now.owner < start.owner
		start = now
		if err == nil && smaller {
			err = fmt.Errorf("still less: %s", now)
		}
		return err
	}, time.Minute)

	began := time.Now()
	round(0, most/2)
	half, err := measure(t.Context(), c, client)
	if err != nil {
		t.Fatal(err)
	}
	// The owner dies with its sessions, and nobody asks for them again.
	c.Sessions[0].Kill()
	if err := c.Sessions[0].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	round(most/2, most)
	took := time.Since(began)
	full, err := measure(t.Context(), c, client)
	if err != nil {
		t.Fatal(err)
	}
	end := gone(&start)
	t.Logf("at the start: %s", start)
	t.Logf("after %d sessions, before the owner died: %s", most/2, half)
	t.Logf("after %d sessions in %s: %s", most, took.Round(time.Second), full)
	t.Logf("at the end: %s", end)
	if full.keys <= start.keys {
		t.Error("the sessions were not in Redis: nothing was tried")
	}
}
