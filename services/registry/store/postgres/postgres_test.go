package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/store/postgres"
	"erlmcp.dev/services/registry/store/storetest"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dsn string, keep int) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, postgres.Options{KeepRemovals: keep})
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
		dsn := testkit.Postgres(t)
		return func(t testing.TB, keep int) store.Store { return open(t, dsn, keep) }
	})
}

func TestReplicasThatStartTogetherMakeTheTablesOnce(t *testing.T) {
	dsn := testkit.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), dsn, postgres.Options{})
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

func TestAChangeWakesListenersOfOtherProcesses(t *testing.T) {
	dsn := testkit.Postgres(t)
	one, two := open(t, dsn, 0), open(t, dsn, 0)
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = two.Listen(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
	})
	defer wg.Wait()
	defer cancel()
	<-woken // it listens
	_, err := one.Change(t.Context(), func(tx store.Tx) error {
		return tx.PutView(t.Context(), &registryv1.View{Name: "v"})
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	case <-time.After(10 * time.Second):
		t.Error("not woken")
	}
}

func TestOneOfSeveralHoldsTheLease(t *testing.T) {
	dsn := testkit.Postgres(t)
	one, two := open(t, dsn, 0), open(t, dsn, 0)
	hold := func(s *postgres.Store, holder string, ttl time.Duration) bool {
		t.Helper()
		held, err := s.HoldLease(t.Context(), holder, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	if !hold(one, "one", time.Minute) || hold(two, "two", time.Minute) || !hold(one, "one", time.Minute) {
		t.Error("the first does not hold it alone")
	}
	if err := two.DropLease(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if hold(two, "two", time.Minute) {
		t.Error("dropping what it hadn't gave it to the second")
	}
	hold(one, "one", 100*time.Millisecond) // and it is never heard of again
	testkit.Eventually(t, func() bool { return hold(two, "two", time.Minute) }, 10*time.Second)
	if hold(one, "one", time.Minute) {
		t.Error("the first has it again")
	}
}

func TestAFrozenWriterHoldsUpTheOthersForABoundedTime(t *testing.T) {
	t.Parallel()
	dsn := testkit.Postgres(t)
	frozen, other := open(t, dsn, 0), open(t, dsn, 0)
	put := func(tx store.Tx) error { return tx.PutView(t.Context(), &registryv1.View{Name: "v"}) }
	began, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := frozen.Change(t.Context(), func(tx store.Tx) error {
			close(began)
			<-release
			return put(tx)
		})
		if err == nil {
			t.Error("the frozen change was committed")
		}
	})
	<-began
	if _, err := other.Change(t.Context(), put); err != nil {
		t.Error(err)
	}
	close(release)
	wg.Wait()
}

func TestAPasswordIsNotInTheError(t *testing.T) {
	const leak = "hunter2"
	for _, dsn := range []string{
		"postgres://erlmcp:" + leak + "@127.0.0.1:1/erlmcp?connect_timeout=1",
		"host=127.0.0.1 port=notaport user=erlmcp password=" + leak,
	} {
		s, err := postgres.Open(t.Context(), dsn, postgres.Options{})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s opened", dsn)
		} else if strings.Contains(err.Error(), leak) {
			t.Error(err)
		}
	}
}

// Connections that lay in the pool while Postgres was started again fail nobody.
func TestAChangeAfterARestartOfPostgresSucceeds(t *testing.T) {
	dsn := testkit.Postgres(t)
	s := open(t, dsn, 0)
	other, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	change := func(name string) error {
		_, err := s.Change(t.Context(), func(tx store.Tx) error {
			return tx.PutView(t.Context(), &registryv1.View{Name: name})
		})
		return err
	}
	for round := range 5 {
		var wg sync.WaitGroup
		for i := range 4 { // so that several connections lie in the pool
			wg.Go(func() {
				if err := change(fmt.Sprintf("before-%d-%d", round, i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// As a restart does, only that it takes no time: all other connections end.
		const end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
		if _, err := other.Exec(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		if err := change(fmt.Sprintf("after-%d", round)); err != nil {
			t.Fatalf("round %d: %v", round+1, err)
		}
	}
}
