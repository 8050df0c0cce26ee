package system

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Operators need not wait for a registry that is frozen; once it is back their changes are made.
func TestAnOperatorsCallToAFrozenRegistryEndsSoon(t *testing.T) {
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: "servers:\n  - {name: s, url: \"http://127.0.0.1:9/mcp\"}\n"}, cluster.Layout{Gateways: 1, Sessions: 1})
	put := func() (status int, body string, took time.Duration) {
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+cluster.Address(c.Gateways[0].Ports.API)+"/api/v1/views/v", strings.NewReader(`{"servers":["s"]}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text), time.Since(began)
	}
	if status, body, _ := put(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	c.Registry.Pause()
	for range 2 { // also once its connection is given up
		if status, body, took := put(); status != http.StatusServiceUnavailable || took > 4*time.Second || !strings.Contains(body, "look whether it was done") {
			t.Errorf("frozen: %d after %s: %s", status, took, body)
		}
	}
	c.Registry.Resume()
	testkit.Eventually(t, func() bool { status, _, _ := put(); return status == http.StatusOK }, 20*time.Second)
}
