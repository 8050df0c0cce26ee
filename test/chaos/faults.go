package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// victim is a process that can be harmed.
type victim struct {
	name   string
	stop   func(context.Context) error
	kill   func()
	start  func(context.Context) error
	pause  func()
	resume func()
}

func node(n *cluster.Node) victim {
	return victim{name: n.Name(), stop: n.Stop, kill: n.Kill, start: n.Restart, pause: n.Pause, resume: n.Resume}
}

func server(name string, s *testkit.Server) victim {
	stop := func(context.Context) error { s.Stop(); return nil }
	return victim{name: name, stop: stop, kill: s.Kill, start: s.Start, pause: s.Pause, resume: s.Resume}
}

// fault is one way to harm one process.
type fault struct {
	victim
	kind string
}

// faults are all of them, the ones that clients feel most first.
func faults(c *cluster.Cluster) []fault {
	var all []fault
	for _, kind := range []string{"kill", "roll", "freeze"} {
		for _, n := range append(append([]*cluster.Node{}, c.Sessions...), c.Gateways...) {
			all = append(all, fault{node(n), kind})
		}
	}
	for _, kind := range []string{"kill", "roll", "freeze"} {
		for _, n := range append(append([]*cluster.Node{}, c.Registries...), c.Metrics) {
			all = append(all, fault{node(n), kind})
		}
		all = append(all, fault{server("redis", c.Redis), kind}, fault{server("postgres", c.Postgres), kind})
	}
	return all
}

// frozenFor is how long a frozen process stays so at least: longer than a lease.
const frozenFor = 6 * time.Second

// strike harms a process and heals it.
func (f fault) strike(ctx context.Context, t *tally, random *rand.Rand) error {
	healed := t.harm(f.name, f.kind)
	defer healed()
	switch f.kind {
	case "freeze":
		f.pause()
		wait(ctx, frozenFor+time.Duration(random.Int64N(int64(2*time.Second))))
		f.resume()
		return nil
	case "roll":
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := f.stop(stopping); err != nil {
			return fmt.Errorf("stop %s: %w", f.name, err)
		}
	case "kill":
		f.kill()
		wait(ctx, time.Duration(random.Int64N(int64(time.Second))))
	}
	starting, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return f.start(starting)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// harass strikes one fault after the other until ctx ends, in an order of chance in which each comes once before
// any comes twice.
func harass(ctx context.Context, t *testing.T, all []fault, tally *tally, random *rand.Rand) {
	for {
		for _, i := range random.Perm(len(all)) {
			wait(ctx, 300*time.Millisecond+time.Duration(random.Int64N(int64(time.Second))))
			if ctx.Err() != nil {
				return
			}
			t.Logf("%s %s %s", time.Now().Format("05.000"), all[i].kind, all[i].name)
			if err := all[i].strike(ctx, tally, random); err != nil {
				t.Errorf("%s of %s: %v", all[i].kind, all[i].name, err)
				return
			}
		}
	}
}

// roll stops and starts every process once, one after the other, as an update does.
func roll(ctx context.Context, t *testing.T, c *cluster.Cluster, tally *tally, random *rand.Rand) {
	for _, n := range c.Nodes() {
		wait(ctx, 500*time.Millisecond) // so that calls run
		if err := (fault{node(n), "roll"}).strike(ctx, tally, random); err != nil {
			t.Errorf("roll of %s: %v", n.Name(), err)
		}
	}
}
