package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// marked are the processes that have a variable in their environment.
func marked(t *testing.T, variable string) []int {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(environments) == 0 {
		t.Fatalf("this test finds processes in /proc, which is not there: %v", err)
	}
	var pids []int
	for _, path := range environments {
		env, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), variable) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// listener is a legacy client's session that counts the times that it is told that tools changed.
func listener(t *testing.T, url string) (session *mcp.ClientSession, told *atomic.Int32) {
	t.Helper()
	told = &atomic.Int32{}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told.Add(1) },
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session, told
}

func callSimple(ctx context.Context, session *mcp.ClientSession, tool string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool})
	if err == nil && result.IsError {
		err = fmt.Errorf("the tool failed: %v", result.Content)
	}
	return err
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	if err := get(t.Context(), url, into); err != nil {
		t.Fatal(err)
	}
}

// A program, what it started, and what left its process group die with their owner, even when that is killed; the
// session goes on at the next owner, with a new program, and tells its client so.
func TestNoProgramOutlivesItsOwner(t *testing.T) {
	mark := "TEST_PROGRAM=" + t.TempDir()
	family := "sleep 1000 </dev/null >/dev/null 2>&1 & setsid sleep 1000 </dev/null >/dev/null 2>&1 & exec " + fixtures + " -stdio"
	name, value, _ := strings.Cut(mark, "=")
	config := fmt.Sprintf("servers:\n  - {name: program, prefix: \"\", command: [sh, -c, %q], env: {%s: %q}}\n", family, name, value)
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config}, cluster.Layout{Gateways: 1})
	rest := cluster.Address(c.Gateways[0].Ports.API)
	awaitServers(t, place{rest: rest}, 1)
	session, told := listener(t, c.URL(""))
	testkit.Eventually(t, func() error { return callSimple(t.Context(), session, "test_simple_text") }, 20*time.Second)

	var list struct {
		Sessions []struct{ SessionID, Owner string }
	}
	getJSON(t, "http://"+rest+"/api/v1/sessions", &list)
	if len(list.Sessions) != 1 {
		t.Fatalf("%d sessions", len(list.Sessions))
	}
	i := slices.IndexFunc(c.Sessions, func(n *cluster.Node) bool { return n.Name()+"@127.0.0.1" == list.Sessions[0].Owner })
	if i < 0 {
		t.Fatalf("the owner %q is none of ours", list.Sessions[0].Owner)
	}
	// The registry asks programs too, at one of the owners; those end by themselves.
	var before []int
	testkit.Eventually(t, func() error {
		if before = marked(t, mark); len(before) != 3 {
			return fmt.Errorf("the program and its children are %d processes: %v", len(before), before)
		}
		return nil
	}, 20*time.Second)
	c.Sessions[i].Kill()
	testkit.Eventually(t, func() error {
		for _, pid := range marked(t, mark) {
			if slices.Contains(before, pid) {
				return fmt.Errorf("process %d outlived its owner", pid)
			}
		}
		return nil
	}, 10*time.Second)

	testkit.Eventually(t, func() error { return callSimple(t.Context(), session, "test_simple_text") }, 20*time.Second)
	testkit.Eventually(t, func() bool { return told.Load() > 0 }, 10*time.Second)
	var shown struct {
		Session struct{ Restarts map[string]int }
	}
	getJSON(t, "http://"+rest+"/api/v1/sessions/"+list.Sessions[0].SessionID, &shown)
	if shown.Session.Restarts["program"] != 1 {
		t.Errorf("restarts: %v", shown.Session.Restarts)
	}
	// In good order: closing ends them too.
	session.Close()
	testkit.Eventually(t, func() error {
		if left := marked(t, mark); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	}, 20*time.Second)
}

// programs is the part of /status on them.
func programs(t *testing.T, n *cluster.Node) (status struct {
	Running int
	Resting map[string]int
}) {
	t.Helper()
	_, body, err := n.Get(t.Context(), "/status")
	if err != nil {
		t.Fatal(err)
	}
	all := struct{ Programs any }{&status}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatal(err)
	}
	return status
}

// A program that ends at once, again and again, is not started at each call. Its last words are told, in development,
// without its secrets; once it is mended it is called again.
func TestAProgramThatKeepsEndingRests(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	script := `test -e ` + broken + ` && { printf '\033[31mno license for %s\n' "$TOKEN" >&2; exit 3; }; exec ` + fixtures + ` -stdio`
	config := fmt.Sprintf("servers:\n  - {name: program, prefix: \"\", command: [sh, -c, %q], env: {TOKEN: xyzzy-secret}}\n", script)
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Config: config})
	rest := cluster.Address(up.Ports.API)
	awaitServers(t, place{rest: rest}, 1)
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	session, _ := listener(t, up.URL(""))
	err := callSimple(t.Context(), session, "test_simple_text")
	if err == nil || !strings.Contains(err.Error(), "its program ended (exit status 3); it wrote last: [31mno license for [hidden]") {
		t.Fatalf("the first call: %v", err)
	}
	testkit.Eventually(t, func() error {
		err := callSimple(t.Context(), session, "test_simple_text")
		if err == nil || !strings.Contains(err.Error(), "the program ended 3 times in a row soon after its start; it is started again in 1s at the earliest") {
			return fmt.Errorf("a call: %w", err)
		}
		return nil
	}, 10*time.Second)
	if got := programs(t, up).Resting["program"]; got != 3 {
		t.Errorf("/status: the program ended %d times", got)
	}
	if _, err := http.Post("http://"+rest+"/api/v1/servers/program:refresh", "application/json", strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error {
		var list struct{ Servers []struct{ Message string } }
		getJSON(t, "http://"+rest+"/api/v1/servers", &list)
		if text := fmt.Sprint(list); !strings.Contains(text, "no license for [hidden]") || strings.Contains(text, "xyzzy") {
			return fmt.Errorf("the list of servers says %s", text)
		}
		return nil
	}, 10*time.Second)
	if log := up.Log(); strings.Contains(log, "xyzzy") || !strings.Contains(log, "no license for [hidden]") {
		t.Error("the log has the secret, or not the program's last words")
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error { return callSimple(t.Context(), session, "test_simple_text") }, 20*time.Second)
}

// A program that nobody calls for long ends; the next call starts it again, and the session says so.
func TestAProgramThatNobodyCallsEnds(t *testing.T) {
	config := "servers:\n  - {name: program, prefix: \"\", command: [" + fixtures + ", -stdio]}\n"
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Config: config, Env: []string{"ERLMCP_PROGRAM_IDLE=1s", "ERLMCP_MAX_PROGRAMS_PER_PRINCIPAL=1"}})
	awaitServers(t, place{rest: cluster.Address(up.Ports.API)}, 1)
	session, told := listener(t, up.URL(""))
	if err := callSimple(t.Context(), session, "test_simple_text"); err != nil {
		t.Fatal(err)
	}
	other, _ := listener(t, up.URL(""))
	if err := callSimple(t.Context(), other, "test_simple_text"); err == nil || !strings.Contains(err.Error(), "too many programs are running") {
		t.Errorf("one more program than a principal may have: %v", err)
	}
	testkit.Eventually(t, func() bool { return programs(t, up).Running == 0 }, 20*time.Second)
	if err := callSimple(t.Context(), session, "test_simple_text"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() bool { return told.Load() > 0 }, 10*time.Second)
}
