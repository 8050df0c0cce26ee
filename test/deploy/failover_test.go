package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Two processes stand for two regions, a file for what points clients to one of them.
func TestAFailoverChecksFirstAndChangesNothingWhenACheckFails(t *testing.T) {
	primary := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	standby := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp})
	health := func(n *cluster.Node) string { return "http://" + cluster.Address(n.Ports.Health) }
	trace := filepath.Join(t.TempDir(), "trace")
	done := func() string {
		text, err := os.ReadFile(trace)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	step := func(name string) string { return "echo " + name + " >> " + trace }
	base := []string{"--primary", health(primary), "--stand-by", health(standby), "--switch", step("switch"), "--promote", step("promote")}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }

	refuses(t, nil, "the primary still answers", "failover.sh", base...)
	refuses(t, nil, "is 90 s behind", "failover.sh", with("--stop", step("stop"), "--lag", "echo 90")...)
	refuses(t, nil, "is 60.5 s behind", "failover.sh", with("--stop", step("stop"), "--lag", "echo 60.5")...)
	for _, odd := range []string{"unknown", "1.2.3", ".", ""} {
		refuses(t, nil, "which is no number", "failover.sh", with("--stop", step("stop"), "--lag", "echo "+odd)...)
	}
	refuses(t, nil, "is no number of seconds", "failover.sh", with("--stop", step("stop"), "--most-lag", "some")...)
	refuses(t, nil, "is needed and not installed", "failover.sh", with("--stop", "no-such-program --at all")...)
	refuses(t, nil, "does not answer", "failover.sh", "--stand-by", "http://127.0.0.1:1", "--switch", step("switch"))
	for _, lag := range []string{"1.5", ".5", "0", "-0.02"} { // programs write .5, and clocks differ
		out := runs(t, nil, "failover.sh", with("--stop", step("stop"), "--lag", "echo "+lag, "--rehearse")...)
		if !strings.Contains(out, "rehearsed") || done() != "" {
			t.Errorf("a rehearsal with a lag of %s did %q and says\n%s", lag, done(), out)
		}
	}

	primary.Kill()
	out := runs(t, nil, "failover.sh", with("--stop", step("stop"), "--lag", "echo 1.5")...)
	if done() != "promote\nswitch\n" || !strings.Contains(out, "Failover completed") {
		t.Errorf("with a dead primary it did %q and says\n%s", done(), out)
	}
	if err := primary.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	runs(t, nil, "failover.sh", with("--stop", step("stop"))...)
	if done() != "promote\nswitch\nstop\npromote\nswitch\n" {
		t.Errorf("with a living primary it did %q", done())
	}
}

func TestMigrateMakesTheTablesReadyAndMayBeRepeated(t *testing.T) {
	dsn := testkit.Postgres(t)
	migrate := func(env ...string) (string, error) {
		command := exec.CommandContext(t.Context(), erlmcp, "migrate")
		command.Env = append(os.Environ(), env...)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	for range 2 {
		if out, err := migrate("ERLMCP_DB_URL=" + dsn); err != nil || !strings.Contains(out, "up to date") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if tables := rows(t, dsn); len(tables["registry_catalog"]) != 1 || tables["metrics_nodes"] == nil {
		t.Errorf("after migrating there are %v", tables)
	}
	if out, err := migrate(); err == nil || !strings.Contains(out, "ERLMCP_DB_URL") {
		t.Errorf("without a database: %v\n%s", err, out)
	}
}
