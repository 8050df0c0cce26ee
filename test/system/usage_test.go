package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Usage can be summed by the tenants of keys, and asked for of one.
func TestUsageIsSummedByTenant(t *testing.T) {
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}})
	admin := firstKey(t, dir, "up")
	for principal, tenant := range map[string]string{"alice": "acme", "bob": "acme", "eve": "umbrella", "mallory": ""} {
		key := makeKeyWith(t, up, admin, fmt.Sprintf(`{"principal":%q,"tenant":%q}`, principal, tenant))
		testkit.Eventually(t, func() bool {
			status, _ := listTools(t, up.URL(""), key)
			return status == http.StatusOK
		}, 10*time.Second)
	}
	usage := func(query string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster.Address(up.Ports.API)+"/api/v1/usage?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+admin)
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var got struct {
			Usage []struct{ Tenant, Principal, Method, Calls string }
		}
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, u := range got.Usage {
			if u.Tenant != "" {
				rows = append(rows, u.Tenant+" "+u.Principal)
			}
		}
		return strings.Join(rows, ", ")
	}
	for query, want := range map[string]string{
		"by=DIMENSION_TENANT": "acme , umbrella ",
		"by=DIMENSION_TENANT&by=DIMENSION_PRINCIPAL&tenant=acme": "acme alice, acme bob",
	} {
		testkit.Eventually(t, func() error {
			if got := usage(query); got != want {
				return fmt.Errorf("%s: %q, want %q", query, got, want)
			}
			return nil
		}, 30*time.Second)
	}
}

// What is counted is seen as it comes by REST and by the command, at any time after the watching began.
func TestCallsAreWatchedByRESTAndCommand(t *testing.T) {
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}})
	admin := firstKey(t, dir, "up")
	alice := makeKeyWith(t, up, admin, `{"principal":"alice","tenant":"acme"}`)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster.Address(up.Ports.API)+"/api/v1/events?kinds=EVENT_KIND_USAGE&tenant=acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+admin)
	rest, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Body.Close()
	if rest.StatusCode != http.StatusOK {
		t.Fatal(rest.Status)
	}
	command := exec.CommandContext(t.Context(), erlmcp, "events", "--kind", "usage", "--principal", "alice", "--output", "json", "--addr", cluster.Address(up.Ports.GRPC))
	command.Env = append(os.Environ(), "ERLMCP_API_KEY="+admin)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	type event struct{ Usage struct{ Principal, Tenant, Method string } }
	seen := make(chan string, 2)
	go func() {
		var line struct{ Result event }
		for d := json.NewDecoder(rest.Body); d.Decode(&line) == nil; {
			if u := line.Result.Usage; u.Method == "tools/list" {
				seen <- "rest " + u.Principal + " " + u.Tenant
				return
			}
		}
	}()
	go func() {
		var line event
		for d := json.NewDecoder(out); d.Decode(&line) == nil; {
			if u := line.Usage; u.Method == "tools/list" {
				seen <- "command " + u.Principal + " " + u.Tenant
				return
			}
		}
	}()
	got := map[string]bool{}
	testkit.Eventually(t, func() bool { // the command may not watch yet, and the key may not be known yet
		listTools(t, up.URL(""), alice)
		select {
		case who := <-seen:
			got[who] = true
		case <-time.After(200 * time.Millisecond):
		}
		return got["rest alice acme"] && got["command alice acme"]
	}, 60*time.Second)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}
