package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

const opening = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`

// post sends one message of a legacy client, of a session if that is not empty.
func post(ctx context.Context, url, session, message string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	return http.DefaultClient.Do(req)
}

// openRaw opens a session, and says what HTTP said.
func openRaw(t *testing.T, url string) (session string, status int) {
	t.Helper()
	resp, err := post(t.Context(), url, "", opening)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get("Mcp-Session-Id"), resp.StatusCode
}

// pingRaw is how a session answers.
func pingRaw(t *testing.T, url, session string) int {
	t.Helper()
	resp, err := post(t.Context(), url, session, `{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func countSessions(t *testing.T, rest string) int {
	t.Helper()
	var list struct{ Sessions []struct{ SessionID string } }
	getJSON(t, "http://"+rest+"/api/v1/sessions?page_size=1000", &list)
	return len(list.Sessions)
}

// history is what became of sessions, oldest first: of one, or of all where id is empty.
func history(t *testing.T, rest, id string) (told []string) {
	t.Helper()
	var list struct {
		Events []struct{ ID, Node, Kind, Reason string }
	}
	getJSON(t, "http://"+rest+"/api/v1/sessions/history?session_id="+id, &list)
	seen := map[string]bool{}
	for _, e := range list.Events {
		if seen[e.ID] || e.Node == "" {
			t.Errorf("of the session %s is told %+v", id, list.Events)
		}
		seen[e.ID] = true
		told = append(told, strings.TrimSpace(strings.TrimPrefix(e.Kind, "KIND_")+" "+e.Reason))
	}
	slices.Reverse(told)
	return told
}

// awaitHistory waits until it is told; owners tell every second.
func awaitHistory(t *testing.T, rest, id string, want ...string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		if told := history(t, rest, id); !slices.Equal(told, want) {
			return fmt.Errorf("of the session %s is told %q, want %q", id, told, want)
		}
		return nil
	}, 20*time.Second)
}

func TestASessionThatNobodyUsesEnds(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_SESSION_IDLE=3s"}})
	session, _ := openRaw(t, up.URL(""))
	for began := time.Now(); time.Since(began) < 4*time.Second; { // in use, though its owner has no part in it, it lives on
		if status := pingRaw(t, up.URL(""), session); status != http.StatusOK {
			t.Fatalf("a session in use answers %d after %s", status, time.Since(began))
		}
	}
	rest := cluster.Address(up.Ports.API)
	testkit.Eventually(t, func() bool { return countSessions(t, rest) == 0 }, 20*time.Second)
	if status := pingRaw(t, up.URL(""), session); status != http.StatusNotFound {
		t.Errorf("an idle session answers %d", status)
	}
	awaitHistory(t, rest, "", "OPENED", "CLOSED idle")
}

func TestASessionThatIsTooOldEndsThoughItIsInUse(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_SESSION_AGE=2s"}})
	session, _ := openRaw(t, up.URL(""))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, up.URL(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	began := time.Now()
	testkit.Eventually(t, func() bool { return pingRaw(t, up.URL(""), session) == http.StatusNotFound }, 20*time.Second)
	if age := time.Since(began); age < time.Second {
		t.Errorf("it ended after %s", age)
	}
	awaitHistory(t, cluster.Address(up.Ports.API), "", "OPENED", "CLOSED too old")
}

func TestSessionsAreBoundedForEachPrincipalAndInAll(t *testing.T) {
	for name, env := range map[string]string{"principal": "ERLMCP_MAX_SESSIONS_PER_PRINCIPAL=3", "process": "ERL_MAX_ETS_TABLES=3"} {
		t.Run(name, func(t *testing.T) {
			up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{env}})
			var first string
			for i := range 3 {
				session, status := openRaw(t, up.URL(""))
				if status != http.StatusOK {
					t.Fatalf("session %d: %d", i+1, status)
				}
				if first == "" {
					first = session
				}
			}
			if _, status := openRaw(t, up.URL("")); status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
				t.Errorf("one too many is answered %d", status)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, up.URL(""), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Mcp-Session-Id", first)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if _, status := openRaw(t, up.URL("")); status != http.StatusOK {
				t.Errorf("once one has ended: %d", status)
			}
		})
	}
}

// operate runs one of the operator's commands.
func operate(t *testing.T, at *cluster.Node, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), erlmcp, append(args, "--addr", cluster.Address(at.Ports.GRPC))...)
	command.Env = append(command.Environ(), "ERLMCP_CLUSTER_SECRET=", "ERLMCP_API_KEY=")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("erlmcp %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Operators reach every session through any gateway, whoever owns it.
func TestOperatorsListShowDrainAndCloseSessionsOfAllOwners(t *testing.T) {
	upstream := cluster.RunFixtures(t, fixtures, "legacy")
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: "servers:\n  - {name: legacy, url: \"" + upstream.URL + "\", prefix: \"\"}\n"}, cluster.Layout{Gateways: 1})
	gateway := c.Gateways[0]
	rest := cluster.Address(gateway.Ports.API)
	awaitServers(t, place{rest: rest}, 1)
	var sessions []*mcp.ClientSession
	for range 8 {
		session, _ := listener(t, c.URL(""))
		if err := callSimple(t.Context(), session, "test_simple_text"); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, session)
	}
	type listed struct {
		Sessions []struct{ SessionID, Owner string }
	}
	owners := func() (by map[string][]string) {
		var list listed
		if err := json.Unmarshal([]byte(operate(t, gateway, "sessions", "list", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		by = map[string][]string{}
		for _, s := range list.Sessions {
			by[s.Owner] = append(by[s.Owner], s.SessionID)
		}
		return by
	}
	before := owners()
	if len(before) != 2 {
		t.Fatalf("sessions are spread over %d owners: %v", len(before), before)
	}
	var from string
	for owner, ids := range before {
		from = owner
		for _, id := range ids {
			if shown := operate(t, gateway, "sessions", "show", id); !strings.Contains(shown, "upstreams  legacy") || !strings.Contains(shown, owner) {
				t.Errorf("a session of %s is shown as\n%s", owner, shown)
			}
		}
	}
	if out := operate(t, gateway, "sessions", "drain", "--owner", from); !strings.Contains(out, fmt.Sprintf("%d sessions of %s handed over", len(before[from]), from)) {
		t.Errorf("drain says %q", out)
	}
	for _, session := range sessions {
		testkit.Eventually(t, func() error { return callSimple(t.Context(), session, "test_simple_text") }, 20*time.Second)
	}
	after := owners()
	if len(after) != 1 || len(after[from]) != 0 {
		t.Errorf("after %s was drained: %v", from, after)
	}
	var closed []string
	for _, ids := range after {
		for _, id := range ids {
			operate(t, gateway, "sessions", "drain", id)
			operate(t, gateway, "sessions", "close", id)
			closed = append(closed, id)
		}
	}
	if left := countSessions(t, rest); left != 0 {
		t.Errorf("%d sessions are left", left)
	}
	// Their history outlives them.
	for _, id := range closed {
		want, drained := []string{"OPENED", "ADOPTED", "CLOSED closed"}, slices.Contains(before[from], id)
		if drained {
			want = []string{"OPENED", "ADOPTED", "ADOPTED", "CLOSED closed"}
		}
		awaitHistory(t, rest, id, want...)
		shown := operate(t, gateway, "sessions", "history", "--session", id)
		lines := strings.Split(strings.TrimSpace(shown), "\n")
		if len(lines) != 1+len(want) || !strings.Contains(lines[1], "closed") || strings.Contains(lines[len(want)], from) != drained {
			t.Errorf("the history of %s is shown as\n%s", id, shown)
		}
	}
}
