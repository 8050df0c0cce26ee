package cluster

import (
	"context"
	"testing"
	"time"
)

// Limits of what tests wait for. They are generous: a busy machine must not fail a test.
const (
	startWithin = time.Minute
	stopWithin  = 30 * time.Second
)

// Run starts a program for a test and ends it with the test. The log's end is shown when the test failed.
func Run(t testing.TB, program Program) *Process {
	t.Helper()
	if program.Dir == "" {
		program.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	p, err := Start(ctx, program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, p) })
	return p
}

// RunUp is [Up] for a test.
func RunUp(t testing.TB, e Erlmcp) *Node {
	t.Helper()
	if e.Dir == "" {
		e.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	node, err := Up(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, node.Process) })
	return node
}

// RunCluster is [StartCluster] for a test.
func RunCluster(t testing.TB, e Erlmcp, layout Layout) *Cluster {
	t.Helper()
	if e.Dir == "" {
		e.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	c, err := StartCluster(ctx, e, layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range c.Nodes() {
				t.Logf("%s's log ends:\n%s", n.Name(), n.log.tail())
			}
		}
	})
	return c
}

func finish(t testing.TB, p *Process) {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	select {
	case <-p.Exited(): // by the test's own doing
	default:
		if err := p.Stop(ctx); err != nil && ctx.Err() != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("%s's log ends:\n%s", p.Name(), p.log.tail())
	}
}

// RunFixtures is [Fixtures] for a test.
func RunFixtures(t testing.TB, binary, era string, args ...string) *Upstream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	u, err := Fixtures(ctx, binary, era, t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, u.Process) })
	return u
}
