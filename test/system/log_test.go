package system

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// What every role says, from its start to its end, is what collectors of logs take: a JSON object on each line. It says
// where it listens, what is doubtful, and once the first key.
func TestEachLineOfALogIsJSON(t *testing.T) {
	many := cluster.RunCluster(t, cluster.Erlmcp{
		Binary: erlmcp, Env: []string{"ERLMCP_LOG_FORMAT=", "ERLMCP_LOG_LEVEL=warn", "ERLMCP_ENV=production", "ERL_AFLAGS=+P 1 -proto_dist inet_tls"},
	}, cluster.Layout{Gateways: 1, Sessions: 1})
	for _, n := range many.Nodes() {
		testkit.Eventually(t, func() bool { return strings.Contains(n.Log(), `"ready"`) }, 20*time.Second)
	}
	if err := many.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, n := range many.Nodes() {
		said := map[string]int{}
		for line := range strings.Lines(n.Log()) {
			var l struct {
				Msg, Node, Health, MCP, Warning, Key string
				Time                                 time.Time
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Msg == "" || l.Time.IsZero() || !strings.HasPrefix(l.Node, n.Name()) {
				t.Errorf("%s wrote %q, %v", n.Name(), line, err)
			}
			said[l.Msg]++
			switch {
			case l.Msg != "ready":
			case l.Health != "http://"+cluster.Address(n.Ports.Health), (n.Role == "gateway") != (l.MCP == "http://"+cluster.Address(n.Ports.HTTP)+"/mcp"):
				t.Errorf("%s says of its addresses %s", n.Name(), line)
			}
			if l.Warning != "" && !strings.HasPrefix(l.Warning, "ERL_AFLAGS: +P") || l.Key != "" && n.Role != "registry" {
				t.Errorf("%s says %s", n.Name(), line)
			}
		}
		key := 0
		if n.Role == "registry" {
			key = 1
		}
		if said["ready"] != 1 || said["a setting may not do what was meant"] == 0 || said["First API key, an administrator's, shown only now"] != key {
			t.Errorf("%s said %v", n.Name(), said)
		}
	}
}

// redirected is erlmcp with another place for its standard output or error, as a shell writes it.
func redirected(t *testing.T, to string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "erlmcp")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec '"+erlmcp+"' \"$@\" "+to+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}

// The log is on standard output alone, and on standard error where standard output is a client's.
func TestTheLogIsOnStandardOutput(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: redirected(t, ">/dev/null"), Env: []string{"ERLMCP_LOG_FORMAT=", "ERL_AFLAGS=+P 1"}})
	if err := up.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if log := up.Log(); log != "" {
		t.Errorf("standard error has %s", log)
	}
	command := exec.CommandContext(t.Context(), erlmcp, "stdio")
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ERLMCP_ENV=dev", "ERL_AFLAGS=+P 1"}
	command.Stdin = strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}` + "\n")
	var out, log bytes.Buffer
	command.Stdout, command.Stderr = &out, &log
	if err := command.Run(); err != nil {
		t.Errorf("%v: %s", err, log.Bytes())
	}
	if answers := strings.Split(strings.TrimSpace(out.String()), "\n"); len(answers) != 1 || !strings.Contains(answers[0], `"supportedVersions"`) {
		t.Errorf("the client gets %q", answers)
	}
	if !strings.Contains(log.String(), `"warning":"ERL_AFLAGS: +P`) {
		t.Errorf("the log is %s", log.Bytes())
	}
}

// written is what was written, read from elsewhere meanwhile.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
