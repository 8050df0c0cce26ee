package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/services/metrics"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/services/metrics/store/postgres"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/testkit"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// operate runs a service until stop is called, or the test ends.
func operate(t *testing.T, s *metrics.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// watch begins to watch; the stream stands when it returns.
func watch(t *testing.T, c metricsv1.MetricsServiceClient, req *metricsv1.WatchEventsRequest) (next func() (string, error)) {
	t.Helper()
	events := must(c.WatchEvents(t.Context(), req))(t)
	if first := must(events.Recv())(t); first.GetEvent() != nil {
		t.Fatalf("a stream begins with %v", first)
	}
	return func() (string, error) {
		for {
			e, err := events.Recv()
			if err != nil {
				return "", err
			}
			switch what := e.GetEvent().(type) {
			case *metricsv1.WatchEventsResponse_Usage:
				return fmt.Sprintf("usage %s %s %d", what.Usage.GetPrincipal(), what.Usage.GetTenant(), what.Usage.GetCalls()), nil
			case *metricsv1.WatchEventsResponse_Audit:
				return "audit " + what.Audit.GetPrincipal(), nil
			case *metricsv1.WatchEventsResponse_Session:
				return "session " + what.Session.GetPrincipal(), nil
			case *metricsv1.WatchEventsResponse_Missed:
				return "missed", nil
			}
		}
	}
}

// expectEvents reads as many events as are wanted, and compares them.
func expectEvents(t *testing.T, who string, next func() (string, error), want ...string) {
	t.Helper()
	var got []string
	for range want {
		e, err := next()
		if err != nil {
			t.Errorf("%s: after %q: %v", who, got, err)
			return
		}
		got = append(got, e)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", who, got, want)
	}
}

// takeSome has a service take usage of ann and bob, one audit event and a session's event of each.
func takeSome(t *testing.T, s *metrics.Service, node string) {
	t.Helper()
	usage := &metricsv1.RecordUsageRequest{Node: node, Usage: []*metricsv1.Usage{
		{Minute: at(0), Principal: "ann", Tenant: "acme", Calls: 1}, {Minute: at(0), Principal: "bob", Calls: 2},
	}}
	for range 2 { // it comes again, and is not shown again
		must(s.RecordUsage(t.Context(), usage))(t)
	}
	must(s.RecordAudit(t.Context(), &metricsv1.RecordAuditRequest{Events: []*metricsv1.AuditEvent{
		{Id: must(uuid.NewV7())(t).String(), At: at(0), Principal: "ann"},
	}}))(t)
	for _, who := range []string{"ann", "bob"} {
		must(s.RecordSessionEvents(t.Context(), &metricsv1.RecordSessionEventsRequest{Events: []*metricsv1.SessionEvent{
			{Id: must(uuid.NewV7())(t).String(), At: at(0), Principal: who, SessionId: "s", Kind: metricsv1.SessionEvent_KIND_OPENED},
		}}))(t)
	}
}

func TestWhatIsTakenIsSeenAsItComesByWhoMaySeeIt(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		service := metrics.New(metrics.Config{Store: s, Log: testkit.Logger(t)})
		stop := operate(t, service)
		admin := access.Principal{ID: "root", Method: access.MethodKey, Role: registryv1.Role_ROLE_ADMIN}
		viewer := access.Principal{ID: "eve", Method: access.MethodKey, Role: registryv1.Role_ROLE_VIEWER}
		ann := access.Principal{ID: "ann", Method: access.MethodKey}
		watching := func(p access.Principal) metricsv1.MetricsServiceClient {
			addr, _ := listen(t, service, "127.0.0.1:0", as(p)...)
			return dial(t, addr)
		}
		all := []string{"usage ann acme 1", "usage bob  2", "audit ann", "session ann", "session bob"}
		watchers := map[string]struct {
			as   access.Principal
			ask  *metricsv1.WatchEventsRequest
			want []string
		}{
			"an admin":            {admin, &metricsv1.WatchEventsRequest{}, all},
			"of one principal":    {admin, &metricsv1.WatchEventsRequest{Principal: "ann"}, []string{all[0], all[2], all[3]}},
			"of one tenant":       {admin, &metricsv1.WatchEventsRequest{Tenant: "acme"}, all[:1]},
			"of one kind":         {admin, &metricsv1.WatchEventsRequest{Kinds: []metricsv1.EventKind{metricsv1.EventKind_EVENT_KIND_SESSION}}, all[3:]},
			"a viewer":            {viewer, &metricsv1.WatchEventsRequest{}, []string{all[0], all[1], all[3], all[4]}},
			"one without a role":  {ann, &metricsv1.WatchEventsRequest{}, []string{all[0], all[3]}},
			"a role's own, named": {ann, &metricsv1.WatchEventsRequest{Principal: "ann"}, []string{all[0], all[3]}},
		}
		next := map[string]func() (string, error){}
		for name, w := range watchers {
			next[name] = watch(t, watching(w.as), w.ask)
		}
		takeSome(t, service, "erlmcp@a")
		for name, w := range watchers {
			expectEvents(t, name, next[name], w.want...)
		}
		for name, refused := range map[string]struct {
			as  access.Principal
			ask *metricsv1.WatchEventsRequest
		}{
			"another's events":     {ann, &metricsv1.WatchEventsRequest{Principal: "bob"}},
			"a viewer's trail":     {viewer, &metricsv1.WatchEventsRequest{Kinds: []metricsv1.EventKind{metricsv1.EventKind_EVENT_KIND_AUDIT}}},
			"a principal's trail":  {ann, &metricsv1.WatchEventsRequest{Kinds: []metricsv1.EventKind{metricsv1.EventKind_EVENT_KIND_AUDIT}}},
			"trail among others'":  {ann, &metricsv1.WatchEventsRequest{Kinds: []metricsv1.EventKind{metricsv1.EventKind_EVENT_KIND_USAGE, metricsv1.EventKind_EVENT_KIND_AUDIT}}},
			"another's, by tenant": {ann, &metricsv1.WatchEventsRequest{Principal: "bob", Tenant: "acme"}},
		} {
			events := must(watching(refused.as).WatchEvents(t.Context(), refused.ask))(t)
			if _, err := events.Recv(); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: %v", name, err)
			}
		}
		stop() // and nothing more had come
		for name := range watchers {
			if e, err := next[name](); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "watch again") {
				t.Errorf("%s: %q, %v once the service stops", name, e, err)
			}
		}
	})
}

// What one replica takes is seen at the others, and heard again once Postgres has ended their connections.
func TestWhatIsTakenIsSeenAtEveryReplica(t *testing.T) {
	dsn := testkit.Postgres(t)
	var replicas [2]*metrics.Service
	for i := range replicas {
		s := must(postgres.Open(t.Context(), dsn))(t)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		replicas[i] = metrics.New(metrics.Config{Store: s, Log: testkit.Logger(t)})
		operate(t, replicas[i])
	}
	addr, _ := listen(t, replicas[1], "127.0.0.1:0")
	next := watch(t, dial(t, addr), &metricsv1.WatchEventsRequest{})
	// heard has one replica take events until the other shows one.
	heard := func(session string) {
		t.Helper()
		seen := make(chan error, 1)
		go func() {
			for {
				if e, err := next(); err != nil || e == "session "+session {
					seen <- err
					return
				}
			}
		}()
		testkit.Eventually(t, func() error { // the replica may not listen yet
			_, err := replicas[0].RecordSessionEvents(t.Context(), &metricsv1.RecordSessionEventsRequest{Events: []*metricsv1.SessionEvent{
				{Id: must(uuid.NewV7())(t).String(), At: at(0), Principal: session, SessionId: "s", Kind: metricsv1.SessionEvent_KIND_OPENED},
			}})
			if err != nil {
				return err
			}
			select {
			case err := <-seen:
				return err
			case <-time.After(100 * time.Millisecond):
				return errors.New("not heard yet")
			}
		}, 20*time.Second)
	}
	heard("first")
	conn := must(pgx.Connect(t.Context(), dsn))(t)
	must(conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))(t)
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	heard("second")
	// All of it, in order, and once, though many come at a time.
	const many = 500
	usage := &metricsv1.RecordUsageRequest{Node: "many", Sequence: 1}
	for i := range many {
		usage.Usage = append(usage.Usage, &metricsv1.Usage{Minute: at(0), Principal: fmt.Sprint("p", i), Calls: 1})
	}
	must(replicas[0].RecordUsage(t.Context(), usage))(t)
	for i := 0; i < many; {
		e, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e, "session ") {
			continue // of those before
		}
		if want := fmt.Sprintf("usage p%d  1", i); e != want {
			t.Fatalf("%q, want %q", e, want)
		}
		i++
	}
}
