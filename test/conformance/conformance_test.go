package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBaselineNeedsAReasonForEachScenario(t *testing.T) {
	got, err := parseBaseline("# comment\n\nping  # broken on purpose\n[legacy]\npong  # of old\n[modern]\npang  # of late\n", "legacy")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Baseline{"ping": "broken on purpose", "pong": "of old"}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"ping", "ping # ", "ping pong # two"} {
		if _, err := parseBaseline(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := KnownFailures("dual"); err != nil {
		t.Errorf("baseline.txt: %v", err)
	}
}

func TestResultsAreReadAndCounted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, checks string) {
		t.Helper()
		d := filepath.Join(dir, "server-"+name+"-2026-11-23T14-14-45-044Z")
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "checks.json"), []byte(checks), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("good", `[{"id":"a","status":"SUCCESS"},{"id":"b","status":"INFO"},{"id":"c","status":"SKIPPED"}]`)
	write("bad", `[{"id":"d","status":"FAILURE","errorMessage":"no"},{"id":"e","status":"WARNING","errorMessage":"hm"}]`)
	write("known-2025", `[{"id":"f","status":"FAILURE"}]`)
	write("empty", `[]`)
	result, err := read("a set", dir)
	if err != nil {
		t.Fatal(err)
	}
	results := []Result{result}
	baseline := Baseline{"known-2025": "why", "good": "fixed since", "elsewhere": "not in this set"}
	baseline.Mark(results)
	passed, failed, known, skipped, warnings := result.Count()
	// "empty" counts as failed: a scenario that checks nothing proves nothing.
	if got, want := [5]int{passed, failed, known, skipped, warnings}, [5]int{1, 2, 1, 1, 1}; got != want {
		t.Errorf("passed, failed, known, skipped, warnings: got %v, want %v", got, want)
	}
	if diff := cmp.Diff([]string{"good"}, baseline.Stale(results)); diff != "" {
		t.Errorf("stale: %s", diff)
	}
	var out strings.Builder
	if err := Print(&out, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FAILURE: a set: bad: d: no", "WARNING: a set: bad: e: hm"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestSetWithoutScenariosIsAnError(t *testing.T) {
	if _, err := read("none", t.TempDir()); err == nil {
		t.Error("an empty run was accepted")
	}
}
