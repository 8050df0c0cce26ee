package system

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"erlmcp.dev/test/cluster"
)

// confined is erlmcp where it sees that its cgroup may hold a gibibyte. Where nobody may have a view of files of their
// own, as in most containers, it is erlmcp as it is.
func confined(t *testing.T) (program string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte("1073741824\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	view := "unshare --map-root-user --mount sh -c 'mount --bind \"$0\" /sys/fs/cgroup && exec \"$@\"' '" + dir + "' "
	if exec.CommandContext(t.Context(), "sh", "-c", view+"true").Run() != nil {
		return erlmcp, false
	}
	program = filepath.Join(t.TempDir(), "erlmcp")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec "+view+"'"+erlmcp+"' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, true
}

// Go's collector keeps a process within its cgroup's memory, unless it was told its limit.
func TestTheCollectorKnowsTheContainersMemory(t *testing.T) {
	program, known := confined(t)
	read := func(env ...string) (held, collector float64) {
		_, text, err := cluster.RunUp(t, cluster.Erlmcp{Binary: program, Env: env}).Get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for name, into := range map[string]*float64{"erlmcp_memory_limit": &held, "go_gc_gomemlimit_bytes": &collector} {
			found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
			if found == nil {
				t.Fatalf("there is no %s", name)
			}
			if *into, err = strconv.ParseFloat(found[1], 64); err != nil {
				t.Fatal(err)
			}
		}
		return held, collector
	}
	held, collector := read()
	within := math.Abs(collector-held*.9) < 16 // bytes
	if known && (held != 1<<30 || !within) || !within && collector != math.MaxInt64 {
		t.Errorf("it may hold %v, and the collector keeps it within %v", held, collector)
	}
	if held, collector = read("GOMEMLIMIT=512MiB"); held != 512<<20 || collector != 512<<20 {
		t.Errorf("told to keep within 512 MiB it may hold %v, and the collector keeps it within %v", held, collector)
	}
}
