package spool_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"erlmcp.dev/shared/spool"
)

func open(t *testing.T, c spool.Config) *spool.Spool {
	t.Helper()
	if c.Limit == 0 {
		c.Limit = 1 << 30
	}
	s, err := spool.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t *testing.T, s *spool.Spool, entries ...string) {
	t.Helper()
	for _, e := range entries {
		if err := s.Add([]byte(e)); err != nil {
			t.Fatal(err)
		}
	}
}

// drain takes all that waits.
func drain(t *testing.T, s *spool.Spool) (all []string) {
	t.Helper()
	for {
		number, data, err := s.Oldest()
		if errors.Is(err, spool.ErrEmpty) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
		if err := s.Remove(number); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, s *spool.Spool, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, drain(t, s), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestEntriesComeInOrderAndStayUntilRemoved(t *testing.T) {
	s := open(t, spool.Config{Dir: t.TempDir()})
	add(t, s, "a", "", "c")
	for range 2 {
		if _, data, err := s.Oldest(); err != nil || string(data) != "a" {
			t.Errorf("%q, %v", data, err)
		}
	}
	expect(t, s, "a", "", "c")
}

func TestWhatWaitsOutlivesAnEndAndOneProcessTakesItOver(t *testing.T) {
	dir := t.TempDir()
	first, living := open(t, spool.Config{Dir: dir}), open(t, spool.Config{Dir: dir, Sync: true})
	add(t, first, "a", "b")
	add(t, living, "of another")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, spool.Config{Dir: dir}), "a", "b")
	expect(t, open(t, spool.Config{Dir: dir}))
	expect(t, living, "of another")
}

func TestNoDirectoryStaysOfAProcessThatLeftNothing(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		s := open(t, spool.Config{Dir: dir})
		add(t, s, "a")
		expect(t, s, "a")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAFullSpoolRefusesOrOverwrites(t *testing.T) {
	full := spool.Config{Dir: t.TempDir(), Limit: 3 * 4096}
	s := open(t, full)
	add(t, s, "a", "b", "c")
	if err := s.Add([]byte("d")); !errors.Is(err, spool.ErrFull) {
		t.Error(err)
	}
	expect(t, s, "a", "b", "c")

	var dropped []string
	full.Dir, full.Overwrite, full.Dropped = t.TempDir(), true, func(e []byte) { dropped = append(dropped, string(e)) }
	s = open(t, full)
	add(t, s, "a", "b", "c", "d", string(make([]byte, 5000)))
	if err := s.Add(make([]byte, 3*4096)); !errors.Is(err, spool.ErrFull) {
		t.Error("an entry larger than all room:", err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", string(make([]byte, 5000))}, dropped); diff != "" {
		t.Error(diff)
	}
}

func TestADamagedEntryIsDroppedAlone(t *testing.T) {
	dir := t.TempDir()
	dropped := 0
	s := open(t, spool.Config{Dir: dir, Dropped: func([]byte) { dropped++ }})
	add(t, s, "a", "b", "c", "d")
	files, err := filepath.Glob(filepath.Join(dir, "*", "0*"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	for i, damage := range []string{"", "\x00\x00\x00\x00b"} {
		if err := os.WriteFile(files[i+1], []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, s, "a", "d")
	if dropped != 2 {
		t.Errorf("%d dropped", dropped)
	}
}

func TestManyAddAtOnce(t *testing.T) {
	s := open(t, spool.Config{Dir: t.TempDir()})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := s.Add(fmt.Append(nil, w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(drain(t, s)); n != 400 {
		t.Errorf("%d entries", n)
	}
}

// TestEveryAcceptedEntryOutlivesKill has processes add, and says after each which: they are killed in the midst of it.
func TestEveryAcceptedEntryOutlivesKill(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_DIR"); dir != "" {
		s := open(t, spool.Config{Dir: dir})
		for i := 0; ; i++ {
			add(t, s, fmt.Sprint(os.Getpid(), " ", i))
			fmt.Println("added", i)
		}
	}
	dir := t.TempDir()
	accepted := map[string]bool{}
	for life := range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), "SPOOL_TEST_DIR="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if number, ok := cutPrefix(lines.Text()); ok {
				accepted[fmt.Sprint(child.Process.Pid, " ", number)] = true
			}
			if n == 20+37*life {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // it was killed
	}
	if len(accepted) < 5*20 {
		t.Fatalf("%d were accepted", len(accepted))
	}
	seen := map[string]bool{}
	for _, e := range drain(t, open(t, spool.Config{Dir: dir})) {
		if seen[e] {
			t.Errorf("%s came twice", e)
		}
		seen[e] = true
		delete(accepted, e)
	}
	if len(accepted) > 0 {
		t.Errorf("%d accepted entries are lost", len(accepted))
	}
}

func cutPrefix(line string) (number int, ok bool) {
	if len(line) < 6 || line[:6] != "added " {
		return 0, false
	}
	number, err := strconv.Atoi(line[6:])
	return number, err == nil
}
