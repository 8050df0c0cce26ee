package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
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
	roll   func(context.Context) error // nil for stop and start
}

// role is the name without a number.
func (v victim) role() string { return strings.TrimRight(v.name, "0123456789") }

// rolled stops it in good order and starts it again.
func (v victim) rolled(ctx context.Context) error {
	if v.roll != nil {
		return v.roll(ctx)
	}
	stopping, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := v.stop(stopping); err != nil {
		return fmt.Errorf("stop %s: %w", v.name, err)
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return v.start(starting)
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

// faults are all of them. The first, one of each kind for an owner and for a gateway, are those that clients feel most.
func faults(c *cluster.Cluster, random *rand.Rand) (first, all []fault) {
	for _, kind := range []string{"kill", "roll", "freeze"} {
		for _, nodes := range [][]*cluster.Node{c.Sessions, c.Gateways} {
			first = append(first, fault{node(nodes[random.IntN(len(nodes))]), kind})
		}
		for _, n := range c.Nodes() {
			all = append(all, fault{node(n), kind})
		}
		all = append(all, fault{server("redis", c.Redis), kind}, fault{server("postgres", c.Postgres), kind})
	}
	return first, all
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
		return f.rolled(context.WithoutCancel(ctx))
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

// harass strikes one fault after the other until a time has come, in an order of chance: first those that come first,
// however little time there is, then all, each once before any comes twice. In every other round it waits until what
// the fault before did is over, so that it is seen what each does; in the others they come in a row.
func harass(ctx context.Context, t *testing.T, first, all []fault, until time.Time, tally *tally, random *rand.Rand) {
	for round := 0; ; round++ {
		faults := all
		if round == 0 {
			faults = first
		}
		for _, i := range random.Perm(len(faults)) {
			healed := time.Now()
			for round%2 == 0 && !tally.quiet(healed) && time.Since(healed) < within {
				wait(ctx, 10*time.Millisecond)
			}
			wait(ctx, 300*time.Millisecond+time.Duration(random.Int64N(int64(time.Second))))
			if ctx.Err() != nil || round > 0 && time.Now().After(until) {
				return
			}
			t.Logf("%s %s %s", time.Now().Format("05.000"), faults[i].kind, faults[i].name)
			if err := faults[i].strike(ctx, tally, random); err != nil {
				t.Errorf("%s of %s: %v", faults[i].kind, faults[i].name, err)
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
