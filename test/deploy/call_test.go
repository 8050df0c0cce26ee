package deploy

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

const administrator = "erlmcp_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef"

// helmTest is what the pod of `helm test` runs, with the variables that the chart gives it, against a gateway.
func helmTest(ctx context.Context, t *testing.T, gateway *cluster.Node, out *bytes.Buffer, env ...string) *exec.Cmd {
	t.Helper()
	script, err := os.ReadFile("../../deploy/helm/erlmcp/files/call.sh")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := os.ReadFile("../../deploy/helm/erlmcp/templates/tests/call.yaml")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Program(t, "wget", "wget")
	ports, err := cluster.FreePorts(7)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, "sh", "-euc", strings.ReplaceAll(string(script), "erlmcp up", erlmcp+" up"))
	c.Env = append(os.Environ(), "SECRET=erlmcp-secrets", "KEY="+administrator, "POD_IP=127.0.0.1", "GATEWAY=http://"+cluster.Address(gateway.Ports.API))
	for _, variable := range regexp.MustCompile(`\{name: (ERLMCP_[A-Z_]+), value: "?([^"}]+)"?\}`).FindAllStringSubmatch(string(pod), -1) {
		c.Env = append(c.Env, variable[1]+"="+variable[2])
	}
	for i, name := range []string{"ERLMCP_PORT", "ERLMCP_HTTP_PORT", "ERLMCP_WS_PORT", "ERLMCP_SSE_PORT", "HEALTH_PORT", "METRICS_PORT", "ERLMCP_GRPC_PORT"} {
		c.Env = append(c.Env, name+"="+strconv.Itoa(ports[i]))
	}
	c.Env = append(append(c.Env, "ERLMCP_DATA_DIR="+t.TempDir()), env...)
	c.Stdout, c.Stderr = out, out
	// Ended as a pod is: the signal goes to the first process.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	return c
}

func servers(t *testing.T, gateway *cluster.Node) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "wget", "-q", "-O", "-", "--header", "Authorization: Bearer "+administrator,
		"http://"+cluster.Address(gateway.Ports.API)+"/api/v1/servers").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestHelmTestCallsItsToolAndLeavesNothing(t *testing.T) {
	gateway := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_ANONYMOUS=false", "ERLMCP_ADMIN_KEY=" + administrator}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := helmTest(ctx, t, gateway, &out).Run(); err != nil || !strings.Contains(out.String(), "the tool answered") {
		t.Errorf("%v\n%s", err, &out)
	}
	if left := servers(t, gateway); strings.Contains(left, "helm-test-") {
		t.Errorf("left behind: %s", left)
	}

	out.Reset()
	if err := helmTest(ctx, t, gateway, &out, "KEY=").Run(); err == nil || !strings.Contains(out.String(), "erlmcp-secrets has no admin-key") {
		t.Errorf("without a key: %v\n%s", err, &out)
	}
}

func TestHelmTestThatIsCutOffLeavesNothing(t *testing.T) {
	gateway := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_ANONYMOUS=false", "ERLMCP_ADMIN_KEY=" + administrator}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	// A server that lets nobody in lists no tools, so the test waits for them.
	waiting := helmTest(ctx, t, gateway, &out, "ERLMCP_ANONYMOUS=false")
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() bool { return strings.Contains(servers(t, gateway), "helm-test-") }, time.Minute)
	cancel()
	if err := waiting.Wait(); err == nil {
		t.Error("a test that was cut off passed")
	}
	if left := servers(t, gateway); strings.Contains(left, "helm-test-") {
		t.Errorf("left behind: %s\n%s", left, &out)
	}
}
