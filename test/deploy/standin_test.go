package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// standIns are programs that stand for those of the same name: shell scripts, found before the real ones.
type standIns struct {
	dir string
	// Env finds them, and tells them as TRACE where to write what they were asked to do.
	Env []string
}

func newStandIns(t *testing.T, programs map[string]string) standIns {
	t.Helper()
	dir := t.TempDir()
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nset -e\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return standIns{dir, []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "TRACE=" + filepath.Join(dir, "trace")}}
}

// trace is what was written to TRACE since it was read last, line by line.
func (s standIns) trace(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(s.dir, "trace")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// with are the stand-ins' variables and more.
func (s standIns) with(more ...string) []string {
	return append(append([]string(nil), s.Env...), more...)
}

// shell runs lines of bash at the top of the repository.
func shell(t *testing.T, lines string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "bash", append([]string{"-euc", lines, "bash"}, args...)...)
	command.Dir = "../.."
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", lines, err, out)
	}
}
