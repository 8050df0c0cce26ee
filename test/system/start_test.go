package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Processes that are started before their stores wait for them, and need no restart by anybody.
func TestProcessesWaitForTheirStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir}, cluster.Layout{Durable: true})
	waiting := []*cluster.Node{c.Metrics, c.Registry, c.Sessions[0]}
	for _, n := range waiting {
		if err := n.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stores := []*testkit.Server{c.Redis, c.Postgres}
	for _, s := range stores {
		s.Kill()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	starting, ctx := errgroup.WithContext(ctx)
	for _, n := range waiting {
		starting.Go(func() error { return n.Restart(ctx) })
		testkit.Eventually(t, func() error {
			log, err := os.ReadFile(filepath.Join(dir, n.Name(), n.Name()+".log"))
			if err == nil && !strings.Contains(string(log), "waiting for it") {
				return fmt.Errorf("%s does not wait: %s", n.Name(), log)
			}
			return err
		}, 20*time.Second)
	}
	for _, s := range stores {
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := starting.Wait(); err != nil {
		t.Error(err)
	}
}
