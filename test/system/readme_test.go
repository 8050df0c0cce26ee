package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// blocks are the README's fenced blocks.
func blocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

// block is the README's only block that holds a text.
func block(t *testing.T, holding string) string {
	t.Helper()
	var found []string
	for _, b := range blocks(t) {
		if strings.Contains(b, holding) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks of the README hold %q", len(found), holding)
	}
	return found[0]
}

// The README's commands run as printed against what `make run` starts; only the ports are this test's.
func TestTheReadmesCommandsRun(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	ports := strings.NewReplacer("127.0.0.1:8080", cluster.Address(up.Ports.API), "127.0.0.1:8081", cluster.Address(up.Ports.HTTP))
	run := func(script string) string {
		command := exec.CommandContext(t.Context(), "sh", "-ec", ports.Replace(script))
		command.Env = append(os.Environ(), "PATH="+filepath.Dir(erlmcp)+":"+os.Getenv("PATH"), "ERLMCP_ADDR="+cluster.Address(up.Ports.GRPC))
		out, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, script, out)
		}
		return string(out)
	}
	testkit.Eventually(t, func() bool {
		return strings.Contains(run("curl -s http://127.0.0.1:8080/api/v1/tools"), "orders_GetProduct")
	}, 20*time.Second)
	if out := run(block(t, "Mcp-Name: orders_GetProduct")); !strings.Contains(out, "9007199254740993") {
		t.Errorf("listing and calling tools says\n%s", out)
	}
	admin := strings.ReplaceAll(block(t, "erlmcp servers list"), "orders.example.com:50051", "127.0.0.1:1")
	admin = regexp.MustCompile(`(?m)^grpcurl.*$`).ReplaceAllString(admin, "") // no part of erlmcp; the rpc tests reflect
	if out := run(admin); !strings.Contains(out, "orders2") {
		t.Errorf("registering and listing servers says\n%s", out)
	}
	file := filepath.Join(t.TempDir(), "erlmcp.yaml")
	if err := os.WriteFile(file, []byte(block(t, "servers:")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run("erlmcp config check --config " + strconv.Quote(file)); !strings.Contains(out, "weather") {
		t.Errorf("the file's check says\n%s", out)
	}
}
