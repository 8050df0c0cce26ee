package system

import (
	"context"
	"fmt"
	"io"
	"net/http"
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

// blocks are a document's fenced blocks.
func blocks(t *testing.T, document string) []string {
	t.Helper()
	text, err := os.ReadFile("../../" + document)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

// block is a document's only block that holds a text.
func block(t *testing.T, document, holding string) string {
	t.Helper()
	var found []string
	for _, b := range blocks(t, document) {
		if strings.Contains(b, holding) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks of %s hold %q", len(found), document, holding)
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
	if out := run(block(t, "README.md", "Mcp-Name: orders_GetProduct")); !strings.Contains(out, "9007199254740993") {
		t.Errorf("listing and calling tools says\n%s", out)
	}
	admin := strings.ReplaceAll(block(t, "README.md", "erlmcp servers list"), "orders.example.com:50051", "127.0.0.1:1")
	admin = regexp.MustCompile(`(?m)^grpcurl.*$`).ReplaceAllString(admin, "") // no part of erlmcp; the rpc tests reflect
	if out := run(admin); !strings.Contains(out, "orders2") {
		t.Errorf("registering and listing servers says\n%s", out)
	}
	file := filepath.Join(t.TempDir(), "erlmcp.yaml")
	if err := os.WriteFile(file, []byte(block(t, "README.md", "servers:")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run("erlmcp config check --config " + strconv.Quote(file)); !strings.Contains(out, "weather") {
		t.Errorf("the file's check says\n%s", out)
	}
}

// So do those of docs/tasks.md.
func TestTheTasksPagesCommandsRun(t *testing.T) {
	started := block(t, "docs/tasks.md", "make run")
	set := regexp.MustCompile(`--set tasks.promote_after=(\S+?)"`).FindStringSubmatch(started)
	if set == nil {
		t.Fatalf("%q sets nothing", started)
	}
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_TASKS_PROMOTE_AFTER=" + set[1]}})
	awaitServers(t, place{rest: cluster.Address(up.Ports.API)}, 1)
	script := strings.ReplaceAll(block(t, "docs/tasks.md", "tasks/get"), "127.0.0.1:8081", cluster.Address(up.Ports.HTTP))
	testkit.Eventually(t, func() error { // the gateway's copy of the catalogue comes after the registry's
		response, err := http.Get("http://" + cluster.Address(up.Ports.API) + "/api/v1/tools")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(text), "orders_WatchOrder") {
			err = fmt.Errorf("it lists %s", text)
		}
		return err
	}, 20*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-ec", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ORDER_STATE_DELIVERED") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The TCP transport's example runs as printed, with the real nc.
func TestNetcatSpeaksOverTCP(t *testing.T) {
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	testkit.Program(t, "nc", "netcat-openbsd")
	script := strings.ReplaceAll(block(t, "docs/transports.md", "nc -N"), "nc -N localhost 8080", "nc -N 127.0.0.1 "+strconv.Itoa(up.Ports.API))
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"supportedVersions"`) {
		t.Errorf("%v\n%s\n%s", err, script, out)
	}
}
