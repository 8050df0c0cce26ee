package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/store/sqlite"
	"erlmcp.dev/services/registry/store/storetest"
	"erlmcp.dev/shared/database"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string, keep int) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{KeepRemovals: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open {
		path := filepath.Join(t.TempDir(), "a name with ? and % and #.db")
		return func(t testing.TB, keep int) store.Store { return open(t, path, keep) }
	})
}

func TestAStoreInMemoryWorks(t *testing.T) {
	s := open(t, database.Memory, 0)
	add := func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "nobody") }
	if _, err := s.Change(t.Context(), add); err == nil {
		t.Error("it removed nobody")
	}
	if c, err := s.Since(t.Context(), 0); err != nil || c.Version != 1 {
		t.Errorf("%v, %v", c, err)
	}
}

func TestAFileThatCannotBeOpenedIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "erlmcp.db")
	if s, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil {
		_ = s.Close()
		t.Error("opened a file in a directory that does not exist")
	} else if !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

// What servers are given to authenticate erlmcp by is in the file, so whoever reads the file has it.
func TestTheFileIsItsOwnersAlone(t *testing.T) {
	fresh, old := filepath.Join(t.TempDir(), "fresh.db"), filepath.Join(t.TempDir(), "old.db")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fresh, old} {
		s := open(t, path, 0)
		if _, err := s.Change(t.Context(), func(tx store.Tx) error { return tx.PutView(t.Context(), &registryv1.View{Name: "v"}) }); err != nil {
			t.Fatal(err)
		}
		for _, beside := range []string{"", "-wal", "-shm"} {
			if about, err := os.Stat(path + beside); err != nil || about.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s%s: %v, %v", path, beside, about, err)
			}
		}
	}
}
