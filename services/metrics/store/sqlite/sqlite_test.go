package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/services/metrics/store/sqlite"
	"erlmcp.dev/services/metrics/store/storetest"
	"erlmcp.dev/shared/database"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
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
	storetest.Run(t, func(t testing.TB) store.Store { return open(t, filepath.Join(t.TempDir(), "erlmcp.db")) })
}

func TestWhatWasKeptIsThereAfterOpeningAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a name with ? and % and #.db")
	first := open(t, path)
	now := time.Now().UTC().Truncate(time.Microsecond)
	if err := first.SeeNode(t.Context(), store.Node{Name: "a@b", StartedAt: now, SeenAt: now}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	nodes, err := open(t, path).NodesSince(t.Context(), now)
	if err != nil || len(nodes) != 1 {
		t.Errorf("%v, %v", nodes, err)
	}
	if found, err := filepath.Glob(filepath.Join(filepath.Dir(path), "a name with*.db")); err != nil || len(found) != 1 || found[0] != path {
		t.Errorf("the file is %q, %v", found, err)
	}
}

func TestTwoMayHaveTheFileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "erlmcp.db")
	stores := []store.Store{open(t, path), open(t, path)}
	now := time.Now()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := stores[i%2].AddUsage(t.Context(), store.Batch{Node: "a", Sequence: uint64(i), At: now, Rows: []store.Row{{Start: now, Calls: 1}}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var calls int64
	err := stores[0].SumUsage(t.Context(), store.UsageQuery{Since: now.Add(-time.Minute), Until: now.Add(time.Minute)}, func(r store.Row) error {
		calls += r.Calls
		return nil
	})
	if err != nil || calls != 40 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestAFileThatCannotBeOpenedIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "erlmcp.db")
	if s, err := sqlite.Open(t.Context(), path); err == nil {
		_ = s.Close()
		t.Error("opened a file in a directory that does not exist")
	} else if !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestTheFileMayBeShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "erlmcp.db")
	open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var others int
	err = db.QueryRowContext(t.Context(), `SELECT count(*) FROM sqlite_master
		WHERE type = 'table' AND name NOT LIKE 'metrics\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`).Scan(&others)
	if err != nil || others != 0 {
		t.Errorf("%d tables without the prefix metrics_, %v", others, err)
	}
}

func TestWhatTheFirstReleaseCountedIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "erlmcp.db")
	db, err := database.SQLite(t.Context(), path, database.Tables{Service: "metrics", Migrations: storetest.First(t, ".")})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range storetest.OldUsage {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO metrics_usage VALUES (?, ?, 's', 'm', 'n', ?, ?, ?)",
			u.Minute, u.Principal, u.Calls, u.Calls/10, u.Calls*1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.ExpectOldUsage(t, open(t, path))
}
