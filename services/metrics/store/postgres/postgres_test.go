package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/services/metrics/store/postgres"
	"erlmcp.dev/services/metrics/store/storetest"
	"erlmcp.dev/shared/database"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dsn string) store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn)
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
	storetest.Run(t, func(t testing.TB) store.Store { return open(t, testkit.Postgres(t)) })
}

func TestReplicasThatStartTogetherMakeTheTablesOnce(t *testing.T) {
	dsn := testkit.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAPasswordIsNotInTheError(t *testing.T) {
	const leak = "hunter2"
	for _, dsn := range []string{
		"postgres://erlmcp:" + leak + "@127.0.0.1:1/erlmcp?connect_timeout=1",
		"postgres://erlmcp:" + leak + "@127.0.0.1:notaport/erlmcp",
		"host=127.0.0.1 port=notaport user=erlmcp password=" + leak,
	} {
		s, err := postgres.Open(t.Context(), dsn)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s opened", dsn)
		} else if strings.Contains(err.Error(), leak) {
			t.Error(err)
		}
	}
}

func TestTheDatabaseMayBeShared(t *testing.T) {
	dsn := testkit.Postgres(t)
	open(t, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var others int
	err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'metrics\_%'`).Scan(&others)
	if err != nil || others != 0 {
		t.Errorf("%d tables without the prefix metrics_, %v", others, err)
	}
}

func TestWhatTheFirstReleaseCountedIsFound(t *testing.T) {
	dsn := testkit.Postgres(t)
	pool, err := database.Postgres(t.Context(), dsn, database.Tables{Service: "metrics", Migrations: storetest.First(t, ".")})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range storetest.OldUsage {
		if _, err := pool.Exec(t.Context(), "INSERT INTO metrics_usage VALUES (to_timestamp($1), $2, 's', 'm', 'n', $3, $4, $5)",
			u.Minute, u.Principal, u.Calls, u.Calls/10, u.Calls*1000); err != nil {
			t.Fatal(err)
		}
	}
	pool.Close()
	storetest.ExpectOldUsage(t, open(t, dsn))
}
