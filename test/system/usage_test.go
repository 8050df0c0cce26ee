package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Usage can be summed by the tenants of keys, and asked for of one.
func TestUsageIsSummedByTenant(t *testing.T) {
	t.Parallel()
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
	type event struct {
		Usage struct{ Principal, Tenant, Method string }
	}
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

// Each call counts once, and each administrative act is in the trail once, though the metrics service and its database
// are killed again and again while they are told.
func TestCallsCountOnceThoughTheMetricsServiceIsKilled(t *testing.T) {
	upstream := cluster.RunFixtures(t, fixtures, "dual")
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: "servers:\n  - {name: dual, url: \"" + upstream.URL + "\", prefix: \"\"}\n"}, cluster.Layout{Durable: true})
	rest := "http://" + cluster.Address(c.Gateways[0].Ports.API)
	awaitServers(t, place{rest: cluster.Address(c.Gateways[0].Ports.API)}, 1)

	stop := make(chan struct{})
	var calls, acts atomic.Int64
	var working sync.WaitGroup
	for i := range 2 {
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, _ := listTools(t, c.Gateways[i].URL(""), ""); status == http.StatusOK {
					calls.Add(1)
				} else {
					t.Errorf("a list while the metrics service is away: %d", status)
				}
			}
		})
	}
	working.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			// An act that needs no database itself.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, rest+"/api/v1/log-level", strings.NewReader(`{"level":"info"}`))
			if err != nil {
				t.Error(err)
				return
			}
			response, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				acts.Add(1)
			} else {
				t.Error(response.Status)
			}
		}
	})
	for range 4 {
		for _, kill := range []func(){c.Metrics.Kill, c.Postgres.Kill} {
			before := calls.Load()
			kill()
			testkit.Eventually(t, func() bool { return calls.Load() > before+100 }, 20*time.Second)
		}
		if err := c.Postgres.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Metrics.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	working.Wait()
	testkit.Eventually(t, func() error {
		var trail int64
		for before := ""; ; {
			var page struct{ Events []struct{ ID, Method string } }
			if err := get(t.Context(), rest+"/api/v1/audit?limit=1000&before="+before, &page); err != nil {
				return err
			}
			for _, e := range page.Events {
				if strings.HasSuffix(e.Method, "/SetLogLevel") {
					trail++
				}
				before = e.ID
			}
			if len(page.Events) < 1000 {
				break
			}
		}
		if trail != acts.Load() {
			return fmt.Errorf("the trail has %d of %d acts", trail, acts.Load())
		}
		var usage struct {
			Usage []struct{ Method, Calls string }
		}
		if err := get(t.Context(), rest+"/api/v1/usage?by=DIMENSION_METHOD", &usage); err != nil {
			return err
		}
		for _, u := range usage.Usage {
			if u.Method == "tools/list" && u.Calls == fmt.Sprint(calls.Load()) {
				return nil
			}
		}
		return fmt.Errorf("%v, want %d calls of tools/list", usage.Usage, calls.Load())
	}, 60*time.Second)
	if calls.Load() < 800 || acts.Load() < 10 {
		t.Errorf("%d calls, %d acts", calls.Load(), acts.Load())
	}
}

// get reads JSON.
func get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
