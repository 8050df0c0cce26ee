package metrics_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/services/metrics/store/postgres"
	"erlmcp.dev/services/metrics/store/sqlite"
	"erlmcp.dev/shared/testkit"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// noon is when the tests' clocks start.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// each runs a test over every store.
func each(t *testing.T, test func(*testing.T, store.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "erlmcp.db"))
		run(t, s, err, test)
	})
	t.Run("postgres", func(t *testing.T) {
		s, err := postgres.Open(t.Context(), testkit.Postgres(t))
		run(t, s, err, test)
	})
}

func run(t *testing.T, s store.Store, err error, test func(*testing.T, store.Store)) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	test(t, s)
}

// listen serves on addr ("127.0.0.1:0" for any port) until stop is called, or the test ends.
func listen(t *testing.T, s *metrics.Service, addr string, options ...grpc.ServerOption) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	s.Register(server)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); err != nil {
			t.Error(err)
		}
	})
	stop = func() { server.Stop(); wg.Wait() }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func dial(t *testing.T, addr string, options ...grpc.DialOption) metricsv1.MetricsServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return metricsv1.NewMetricsServiceClient(conn)
}

func client(t *testing.T, c metrics.Config) metricsv1.MetricsServiceClient {
	t.Helper()
	addr, _ := listen(t, metrics.New(c), "127.0.0.1:0")
	return dial(t, addr)
}

// must is for answers that cannot fail in a test's course.
func must[T any](answer T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

func at(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(d)) }

func TestUsageIsCountedOnceAndSummedAsAsked(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s, Clock: (&clock{now: noon.Add(90 * time.Second)}).Now})
		batch := &metricsv1.RecordUsageRequest{Node: "erlmcp@a/1", Sequence: 1, Usage: []*metricsv1.Usage{
			{Minute: at(7 * time.Second), Principal: "ann", Server: "weather", Method: "tools/call", Name: "rain", Calls: 3, Errors: 1, Micros: 900},
			{Minute: at(time.Minute), Principal: "bob", Server: "weather", Method: "tools/call", Name: "rain", Calls: 5, Micros: 500},
		}}
		for range 3 {
			must(c.RecordUsage(t.Context(), batch))(t)
		}
		for name, q := range map[string]struct {
			ask  *metricsv1.QueryUsageRequest
			want []*metricsv1.Usage
		}{
			"all of the last hour": {
				&metricsv1.QueryUsageRequest{},
				[]*metricsv1.Usage{{Calls: 8, Errors: 1, Micros: 1400}},
			},
			"by minute and principal": {
				&metricsv1.QueryUsageRequest{By: []metricsv1.Dimension{metricsv1.Dimension_DIMENSION_MINUTE, metricsv1.Dimension_DIMENSION_PRINCIPAL, metricsv1.Dimension_DIMENSION_MINUTE}},
				[]*metricsv1.Usage{
					{Minute: at(time.Minute), Principal: "bob", Calls: 5, Micros: 500},
					{Minute: at(0), Principal: "ann", Calls: 3, Errors: 1, Micros: 900},
				},
			},
			"by all but the minute, limited": {
				&metricsv1.QueryUsageRequest{Limit: 1, By: []metricsv1.Dimension{
					metricsv1.Dimension_DIMENSION_PRINCIPAL, metricsv1.Dimension_DIMENSION_SERVER, metricsv1.Dimension_DIMENSION_METHOD, metricsv1.Dimension_DIMENSION_NAME,
				}},
				[]*metricsv1.Usage{{Principal: "bob", Server: "weather", Method: "tools/call", Name: "rain", Calls: 5, Micros: 500}},
			},
			"of one principal": {
				&metricsv1.QueryUsageRequest{Principal: "ann", Server: "weather"},
				[]*metricsv1.Usage{{Calls: 3, Errors: 1, Micros: 900}},
			},
			"of a span": {
				&metricsv1.QueryUsageRequest{Since: at(0), Until: at(time.Minute)},
				[]*metricsv1.Usage{{Calls: 3, Errors: 1, Micros: 900}},
			},
			"of the hour before":         {&metricsv1.QueryUsageRequest{Until: at(0)}, nil},
			"of a name that is no SQL":   {&metricsv1.QueryUsageRequest{Principal: "' OR 1=1 --"}, nil},
			"of a name with a zero byte": {&metricsv1.QueryUsageRequest{Principal: "a\x00b"}, nil},
		} {
			got := must(c.QueryUsage(t.Context(), q.ask))(t)
			if diff := cmp.Diff(q.want, got.GetUsage(), protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

// What a node counts whose clock is far ahead counts for now, so that it is found, and expires.
func TestAClockThatIsAheadCountsForNow(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s, Clock: (&clock{now: noon}).Now})
		const year = 365 * 24 * time.Hour
		for i, minute := range []time.Duration{-time.Minute, 59 * time.Minute, 61 * time.Minute, 100 * year} {
			must(c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{
				Node: "a", Sequence: uint64(i), Usage: []*metricsv1.Usage{{Minute: at(minute), Calls: 1 << i}},
			}))(t)
		}
		got := must(c.QueryUsage(t.Context(), &metricsv1.QueryUsageRequest{
			Since: at(-time.Hour), Until: at(200 * year), By: []metricsv1.Dimension{metricsv1.Dimension_DIMENSION_MINUTE},
		}))(t).GetUsage()
		want := []*metricsv1.Usage{{Minute: at(0), Calls: 4 + 8}, {Minute: at(59 * time.Minute), Calls: 2}, {Minute: at(-time.Minute), Calls: 1}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s})
		usage := func(u *metricsv1.Usage) func() error {
			return func() error {
				_, err := c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{Node: "a", Usage: []*metricsv1.Usage{u}})
				return err
			}
		}
		audit := func(e *metricsv1.AuditEvent) func() error {
			return func() error {
				_, err := c.RecordAudit(t.Context(), &metricsv1.RecordAuditRequest{Events: []*metricsv1.AuditEvent{e}})
				return err
			}
		}
		query := func(q *metricsv1.QueryUsageRequest) func() error {
			return func() error { _, err := c.QueryUsage(t.Context(), q); return err }
		}
		never := &timestamppb.Timestamp{Seconds: 1 << 60}
		for name, call := range map[string]func() error{
			"usage without a minute":  usage(&metricsv1.Usage{Calls: 1}),
			"usage of no minute":      usage(&metricsv1.Usage{Minute: never}),
			"usage beyond reason":     usage(&metricsv1.Usage{Minute: at(0), Micros: 1 << 63}),
			"usage of nobody":         func() error { _, err := c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{}); return err },
			"a sum by nothing":        query(&metricsv1.QueryUsageRequest{By: []metricsv1.Dimension{0}}),
			"a sum by the unknown":    query(&metricsv1.QueryUsageRequest{By: []metricsv1.Dimension{99}}),
			"a sum since never":       query(&metricsv1.QueryUsageRequest{Since: never}),
			"a sum until never":       query(&metricsv1.QueryUsageRequest{Until: never}),
			"an event without an id":  audit(&metricsv1.AuditEvent{At: at(0)}),
			"an event without a time": audit(&metricsv1.AuditEvent{Id: uuid.NewString()}),
			"events before no id":     func() error { _, err := c.ListAudit(t.Context(), &metricsv1.ListAuditRequest{Before: "x"}); return err },
			"a beat of nobody":        func() error { _, err := c.Heartbeat(t.Context(), &metricsv1.HeartbeatRequest{}); return err },
			"a beat since never": func() error {
				_, err := c.Heartbeat(t.Context(), &metricsv1.HeartbeatRequest{Node: &metricsv1.Node{Name: "a@b", StartedAt: never}})
				return err
			},
		} {
			if err := call(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.ListAudit(t.Context(), &metricsv1.ListAuditRequest{Before: uuid.NewString()}); status.Code(err) != codes.NotFound {
			t.Errorf("events before an unknown one: %v", err)
		}
	})
}

func TestTheAuditTrailIsKeptOnceAndPaged(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s})
		var added []*metricsv1.AuditEvent
		for i := range 7 {
			added = append(added, &metricsv1.AuditEvent{
				Id: must(uuid.NewV7())(t).String(), At: at(time.Duration(i) * time.Second), Node: "erlmcp@a", Principal: "ann",
				Method: "/erlmcp.registry.v1.RegistryService/DeleteServer", Object: "weather", Outcome: "OK",
			})
		}
		for range 2 { // the answer to the first was lost
			must(c.RecordAudit(t.Context(), &metricsv1.RecordAuditRequest{Events: added}))(t)
		}
		var got []*metricsv1.AuditEvent
		for before := ""; len(got) < len(added); before = strings.ToUpper(got[len(got)-1].GetId()) {
			page := must(c.ListAudit(t.Context(), &metricsv1.ListAuditRequest{Before: before, Limit: 3}))(t).GetEvents()
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		slices.Reverse(added)
		if diff := cmp.Diff(added, got, protocmp.Transform()); diff != "" {
			t.Errorf("events, newest first (-want +got):\n%s", diff)
		}
	})
}

func TestTextThatADatabaseRefusesIsKeptStill(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s})
		event := &metricsv1.AuditEvent{Id: must(uuid.NewV7())(t).String(), At: at(0), Object: "a\x00b", Outcome: "PermissionDenied"}
		must(c.RecordAudit(t.Context(), &metricsv1.RecordAuditRequest{Events: []*metricsv1.AuditEvent{event}}))(t)
		events := must(c.ListAudit(t.Context(), &metricsv1.ListAuditRequest{}))(t).GetEvents()
		if len(events) != 1 || events[0].GetObject() != "a\uFFFDb" {
			t.Errorf("%v", events)
		}
	})
}

func TestNodesLiveWhileTheyBeat(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		now := &clock{now: noon}
		c := client(t, metrics.Config{Store: s, Clock: now.Now})
		a := &metricsv1.Node{Name: "erlmcp@a", Roles: []string{"gateway"}, Version: "3.0.0", Address: "10.0.0.1:9101", StartedAt: at(-time.Hour)}
		b := &metricsv1.Node{Name: "erlmcp@b", Roles: []string{"session", "registry"}, StartedAt: at(-time.Minute)}
		beat := func(n *metricsv1.Node, leaving bool) uint32 {
			t.Helper()
			return must(c.Heartbeat(t.Context(), &metricsv1.HeartbeatRequest{Node: n, Leaving: leaving}))(t).GetNodes()
		}
		expect := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, n := range must(c.ListNodes(t.Context(), &metricsv1.ListNodesRequest{}))(t).GetNodes() {
				got = append(got, n.GetName()+" "+strings.Join(n.GetRoles(), "+")+" "+n.GetSeenAt().AsTime().Format("05"))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		expect("at first")
		if n := beat(b, false); n != 1 {
			t.Errorf("%d nodes", n)
		}
		now.move(5 * time.Second)
		if n := beat(a, false); n != 2 {
			t.Errorf("%d nodes", n)
		}
		expect("both beat", "erlmcp@a gateway 05", "erlmcp@b session+registry 00")
		now.move(5 * time.Second)
		expect("one is silent for 10 s", "erlmcp@a gateway 05", "erlmcp@b session+registry 00")
		now.move(time.Millisecond)
		expect("and longer", "erlmcp@a gateway 05")
		if n := beat(b, false); n != 2 {
			t.Errorf("%d nodes", n)
		}
		if n := beat(a, true); n != 1 {
			t.Errorf("%d nodes after one left", n)
		}
		expect("one left", "erlmcp@b session+registry 10")
	})
}

// A node that fell silent is missing until it is back, says that it leaves, or was waited for long enough.
func TestNodesThatFellSilentAreMissingForAWhile(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		now := &clock{now: noon}
		c := client(t, metrics.Config{Store: s, Clock: now.Now})
		least := client(t, metrics.Config{Store: s, Clock: now.Now, LeastNodes: 4})
		node := func(name string) *metricsv1.Node { return &metricsv1.Node{Name: name, StartedAt: at(0)} }
		beat := func(when string, c metricsv1.MetricsServiceClient, name string, leaving bool, nodes, expected uint32) {
			t.Helper()
			got := must(c.Heartbeat(t.Context(), &metricsv1.HeartbeatRequest{Node: node(name), Leaving: leaving}))(t)
			if got.GetNodes() != nodes || got.GetExpected() != expected {
				t.Errorf("%s: %d of %d nodes", when, got.GetNodes(), got.GetExpected())
			}
		}
		missing := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, n := range must(c.ListNodes(t.Context(), &metricsv1.ListNodesRequest{}))(t).GetMissing() {
				got = append(got, n.GetName())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: missing (-want +got):\n%s", when, diff)
			}
		}
		beat("the first", c, "erlmcp@a", false, 1, 1)
		beat("the second", c, "erlmcp@b", false, 2, 2)
		beat("the third", c, "erlmcp@c", false, 3, 3)
		missing("nobody")
		now.move(11 * time.Second)
		beat("two are silent", c, "erlmcp@a", false, 1, 3)
		missing("two are silent", "erlmcp@b", "erlmcp@c")
		beat("one is back", c, "erlmcp@b", false, 2, 3)
		missing("one is back", "erlmcp@c")
		beat("where more should be", least, "erlmcp@a", false, 2, 4)
		beat("one leaves", c, "erlmcp@b", true, 1, 2)
		beat("one of another name", c, "erlmcp@d", false, 2, 3)
		now.move(15*time.Minute - 11*time.Second)
		beat("for a quarter of an hour", c, "erlmcp@a", false, 1, 3)
		now.move(time.Millisecond)
		beat("and no longer", c, "erlmcp@a", false, 1, 2)
		missing("and no longer", "erlmcp@d")
	})
}

func TestWhatIsTooOldGoes(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s, Clock: (&clock{now: noon}).Now})
		for i, ago := range []time.Duration{-2 * time.Hour, -30 * time.Minute} {
			must(c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{
				Node: "a", Sequence: uint64(i), Usage: []*metricsv1.Usage{{Minute: at(ago), Calls: 1}},
			}))(t)
			must(c.RecordAudit(t.Context(), &metricsv1.RecordAuditRequest{Events: []*metricsv1.AuditEvent{
				{Id: uuid.NewString(), At: at(ago), Object: ago.String()},
			}}))(t)
			must(c.RecordSessionEvents(t.Context(), &metricsv1.RecordSessionEventsRequest{Events: []*metricsv1.SessionEvent{
				{Id: uuid.NewString(), At: at(ago), SessionId: ago.String(), Kind: metricsv1.SessionEvent_KIND_OPENED},
			}}))(t)
		}
		must(c.Heartbeat(t.Context(), &metricsv1.HeartbeatRequest{Node: &metricsv1.Node{Name: "erlmcp@a"}}))(t)
		left := func() string {
			since := at(-24 * time.Hour)
			usage := must(c.QueryUsage(t.Context(), &metricsv1.QueryUsageRequest{Since: since, Step: metricsv1.Step_STEP_MINUTE}))(t)
			calls := uint64(0)
			for _, u := range usage.GetUsage() {
				calls += u.GetCalls()
			}
			text := fmt.Sprint(calls, " calls; acts")
			for _, e := range must(c.ListAudit(t.Context(), &metricsv1.ListAuditRequest{}))(t).GetEvents() {
				text += " " + e.GetObject()
			}
			text += "; sessions"
			for _, e := range must(c.ListSessionEvents(t.Context(), &metricsv1.ListSessionEventsRequest{Since: since}))(t).GetEvents() {
				text += " " + e.GetSessionId()
			}
			return text
		}
		for _, x := range []struct {
			keep metrics.Keep
			want string
		}{
			{metrics.Keep{}, "2 calls; acts -30m0s -2h0m0s; sessions -30m0s -2h0m0s"},
			{metrics.Keep{Minutes: time.Hour}, "1 calls; acts -30m0s -2h0m0s; sessions -30m0s -2h0m0s"},
			{metrics.Keep{Sessions: time.Hour}, "1 calls; acts -30m0s -2h0m0s; sessions -30m0s"}, // acts are kept for ever
			{metrics.Keep{Audit: time.Hour}, "1 calls; acts -30m0s; sessions -30m0s"},
			{metrics.Keep{Audit: time.Minute, Sessions: time.Minute}, "1 calls; acts; sessions"},
		} {
			service := metrics.New(metrics.Config{Store: s, Clock: (&clock{now: noon}).Now, Keep: x.keep})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- service.Run(ctx) }()
			testkit.Eventually(t, func() error {
				if got := left(); got != x.want {
					return fmt.Errorf("keeping %+v leaves %s, want %s", x.keep, got, x.want)
				}
				return nil
			}, 10*time.Second)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := left(); got != x.want {
				t.Errorf("keeping %+v leaves %s, want %s", x.keep, got, x.want)
			}
		}
	})
}

func TestAStoreThatIsGoneIsTriedAgainLaterAndTellsNothing(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		service := metrics.New(metrics.Config{Store: s})
		addr, _ := listen(t, service, "127.0.0.1:0")
		c := dial(t, addr)
		if err := service.Ready(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if service.Ready() == nil {
			t.Error("still ready")
		}
		_, err := c.ListNodes(t.Context(), &metricsv1.ListNodesRequest{})
		if status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
}
