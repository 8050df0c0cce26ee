package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

var (
	seed     = flag.Uint64("seed", 0, "what chance begins with; 0 for the time")
	duration = flag.Duration("for", 20*time.Second, "how long processes are harmed")
)

// views are one for each counting server: one that keeps sessions, one that doesn't, and one that keeps the events of
// its answers too.
var views = []string{"stateful", "stateless", "keeping"}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	binary, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// start starts a cluster in front of counting servers.
func start(t *testing.T, binary string) (*cluster.Cluster, *upstream) {
	t.Helper()
	u := &upstream{count: map[string]int{}}
	config := fmt.Sprintf("servers:\n  - {name: stateful, url: %q}\n  - {name: stateless, url: %q}\n  - {name: keeping, url: %q}\n",
		u.serve(t, &mcp.StreamableHTTPOptions{}), u.serve(t, &mcp.StreamableHTTPOptions{Stateless: true}), u.serve(t, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}))
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: binary, Config: config, Env: []string{"ERLMCP_LAME_DUCK=1s"}}, cluster.Layout{Registries: 2, Durable: true})
	for _, g := range c.Gateways {
		testkit.Eventually(t, func() error {
			for _, view := range views {
				r, err := newRaw(t.Context(), g.URL(view), modernVersion)
				if err != nil {
					return err
				}
				if _, err := r.call(t.Context(), "read", arguments{Call: "first"}, func(float64) {}); err != nil {
					return err
				}
			}
			return nil
		}, time.Minute)
	}
	return c, u
}

// clients are of each kind that there is.
func clients(t *testing.T, c *cluster.Cluster) []client {
	t.Helper()
	var all []client
	for _, view := range views {
		for _, version := range []string{"2025-06-18", "2025-11-25", modernVersion} {
			r, err := newRaw(t.Context(), c.URL(view), version)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r, newSDK(c.URL(view), version))
		}
	}
	const legacy = "2025-11-25"
	return append(all,
		newSocket(c, "stateful", legacy), newSocket(c, "stateless", modernVersion), newSocket(c, "keeping", legacy),
		newWire(c, "stateless", legacy), newWire(c, "stateful", modernVersion), newWire(c, "keeping", legacy),
		newSSE(c, "stateful", "2024-11-05"), newSSE(c, "keeping", "2025-06-18"),
	)
}

// run loads a cluster while harm runs, and fails the test for each broken promise.
func run(t *testing.T, binary string, harm func(ctx context.Context, c *cluster.Cluster, tally *tally, random *rand.Rand)) *tally {
	t.Helper()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", *seed)
	c, u := start(t, binary)
	tally := &tally{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	for i, client := range clients(t, c) {
		load.Go(func() {
			defer client.close()
			tally.load(ctx, rand.New(rand.NewPCG(*seed, uint64(i))), client)
		})
	}
	heard := watch(t, c)
	harm(ctx, c, tally, rand.New(rand.NewPCG(*seed, 1<<32)))
	heard()
	stop()
	load.Wait()
	t.Logf("%v", tally)
	if broken := tally.violations(u); len(broken) > 0 {
		t.Errorf("%d promises were broken:\n%s", len(broken), strings.Join(broken, "\n"))
	}
	return tally
}

// Whichever process is killed, frozen or rolled: no call that may not be repeated is carried out twice, none that may
// be fails, no event is lost or comes twice, and every loss is reported as such.
func TestChaos(t *testing.T) {
	run(t, build(t), func(ctx context.Context, c *cluster.Cluster, tally *tally, random *rand.Rand) {
		ctx, cancel := context.WithTimeout(ctx, *duration)
		defer cancel()
		harass(ctx, t, faults(c), tally, random)
	})
}

// An update that restarts every process, one after the other, fails no call.
func TestARollingUpdateFailsNoCall(t *testing.T) {
	tally := run(t, build(t), func(ctx context.Context, c *cluster.Cluster, tally *tally, random *rand.Rand) {
		roll(ctx, t, c, tally, random)
	})
	tally.unharmed(t)
}

// unharmed fails the test for each call that was not done at once.
func (tally *tally) unharmed(t *testing.T) {
	t.Helper()
	for _, call := range tally.calls {
		// A TCP connection's end does not say that the gateway had not taken a call: such clients may have to call again.
		again := strings.HasPrefix(call.client, "TCP") && (call.outcome == done || call.outcome == broken)
		if !again && (call.outcome != done || call.tries != 1) {
			t.Errorf("%s %s at %s: %s after %d tries: %s", call.client, call.tool, call.began.Format("05.000"), call.outcome, call.tries, call.detail)
		}
	}
}
