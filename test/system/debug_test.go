package system

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// debug asks a process's health port as whoever has a key.
func debug(t *testing.T, n *cluster.Node, method, path, key, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+cluster.Address(n.Ports.Health)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// On every role administrators, and nobody else, can take profiles and change the log level while it runs.
func TestAdministratorsLookInside(t *testing.T) {
	dir := t.TempDir()
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}}, cluster.Layout{})
	admin := firstKey(t, dir, "registry")
	for _, n := range many.Nodes() {
		t.Run(n.Role, func(t *testing.T) {
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/log-level", "/debug/x"} {
				for _, key := range []string{"", "erlmcp_none_none"} {
					if status, body := debug(t, n, http.MethodGet, path, key, ""); status != http.StatusUnauthorized {
						t.Errorf("a stranger got %s: %d %.80s", path, status, body)
					}
				}
			}
			if status, _ := debug(t, n, http.MethodPut, "/debug/log-level", "", "debug"); status != http.StatusUnauthorized {
				t.Errorf("a stranger changed the log level: %d", status)
			}
			testkit.Eventually(t, func() bool { // keys come with the catalogue
				status, _ := debug(t, n, http.MethodGet, "/debug/log-level", admin, "")
				return status == http.StatusOK
			}, 20*time.Second)
			if status, profile := debug(t, n, http.MethodGet, "/debug/pprof/goroutine?debug=1", admin, ""); status != http.StatusOK || !strings.HasPrefix(profile, "goroutine profile:") {
				t.Errorf("the profile: %d %.80q", status, profile)
			}
			if status, body := debug(t, n, http.MethodPut, "/debug/log-level", admin, "loud"); status != http.StatusBadRequest {
				t.Errorf("a level that is none: %d %s", status, body)
			}
			level := func(args ...string) string {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				c := exec.CommandContext(ctx, erlmcp, append([]string{"log-level", "--health-addr", cluster.Address(n.Ports.Health)}, args...)...)
				c.Env = append(c.Environ(), "ERLMCP_API_KEY="+admin)
				out, err := c.CombinedOutput()
				if err != nil {
					t.Errorf("log-level %v: %v: %s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			before := level()
			level("debug")
			if now := level(); before != "info" || now != "debug" {
				t.Errorf("the level was %q and is %q", before, now)
			}
			if !strings.Contains(n.Log(), "the log level was changed") {
				t.Error("the log does not say so")
			}
		})
	}
}
