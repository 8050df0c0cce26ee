package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// neighbour is the commit of the release before this one. It moves on with each release.
const neighbour = "18e22fa14b72ca2f2d37dda5933a9d25a785a014"

// buildNeighbour builds the release before this one.
func buildNeighbour(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.CommandContext(t.Context(), "git", "-C", root, "cat-file", "-e", neighbour+"^{commit}").Run(); err != nil {
		shallow, err := exec.CommandContext(t.Context(), "git", "-C", root, "rev-parse", "--is-shallow-repository").Output()
		if err == nil && strings.TrimSpace(string(shallow)) == "false" {
			t.Fatalf("the commit %s is not here: which one is the release before this one?", neighbour)
		}
		t.Skipf("NOT RUN: the release before this one is not here; git fetch --unshallow, or clone the repository, for the commit %s", neighbour)
	}
	dir := t.TempDir()
	archive, err := exec.CommandContext(t.Context(), "git", "-C", root, "archive", neighbour).Output()
	if err != nil {
		t.Fatal(err)
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(archive)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	binary := filepath.Join(dir, "neighbour")
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/erlmcp")
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// Two neighbouring releases run side by side: an upgrade from one to the other and back, process by process, fails no
// call, and each reads what the other wrote.
func TestAnUpgradeAndItsRollbackFailNoCall(t *testing.T) {
	before, now := buildNeighbour(t), build(t)
	program := filepath.Join(t.TempDir(), "erlmcp")
	install := func(binary string) {
		t.Helper()
		next := program + ".next"
		if err := os.Symlink(binary, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, program); err != nil {
			t.Fatal(err)
		}
	}
	install(before)
	tally := run(t, program, true, func(ctx context.Context, c *cluster.Cluster, tally *tally, random *rand.Rand) {
		s := &site{c: c}
		for _, release := range []struct{ name, binary string }{{"before", before}, {"now", now}, {"back", before}} {
			if release.name != "before" {
				install(release.binary)
				roll(ctx, t, c, tally, random)
			}
			if err := s.view(ctx, release.name, "stateful"); err != nil {
				t.Fatalf("%s: %v", release.name, err)
			}
			// What any of them wrote is there, at both gateways, and serves.
			for _, view := range []string{"before", "now", "back"} {
				for _, g := range c.Gateways {
					testkit.Eventually(t, func() error { return calls(ctx, g.URL(view)) }, 20*time.Second)
				}
				if view == release.name {
					break
				}
			}
			testkit.Eventually(t, func() error { return s.counted(ctx) }, 20*time.Second)
		}
	})
	tally.unharmed(t)
}

// calls calls a tool at a gateway.
func calls(ctx context.Context, url string) error {
	r, err := newRaw(ctx, url, modernVersion)
	if err != nil {
		return err
	}
	_, err = r.call(ctx, "stateful_read", arguments{Call: fmt.Sprintf("upgrade%d", ids.Add(1))}, func(float64) {})
	return err
}

// counted asks for the usage that was counted.
func (s *site) counted(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/api/v1/usage?by=DIMENSION_SERVER", s.c.API.Address()), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var usage struct{ Usage []json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&usage); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || len(usage.Usage) == 0 {
		return fmt.Errorf("%s: %v", response.Status, usage)
	}
	return nil
}
