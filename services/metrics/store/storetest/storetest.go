// Package storetest is the suite that every [store.Store] passes. Start at [Run].
package storetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"erlmcp.dev/services/metrics/store"
)

// Run tests the stores that open returns, each with a new and empty database.
func Run(t *testing.T, open func(testing.TB) store.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"a batch counts once", batchOnce},
		{"batches add up", batchesAddUp},
		{"a batch that comes many times at once counts once", batchOnceConcurrently},
		{"nodes that report the same things at once lose nothing", concurrentBatches},
		{"a batch may be large, or empty", batchSizes},
		{"usage is summed by any dimensions", sums},
		{"usage is filtered", filters},
		{"usage is summed by the tenants that principals were last seen with", tenants},
		{"a span holds its first minute and not its last", span},
		{"the rows with the most calls come first, within the limit", limit},
		{"text is data", textIsData},
		{"counts add up by the hour and day, each kept for its own time", steps},
		{"how long calls took adds up", took},
		{"rows come in the order asked for", order},
		{"old usage and batches are dropped", dropUsage},
		{"an audit event is kept once", eventOnce},
		{"audit events are paged, newest first", eventPages},
		{"paging from an unknown event fails", eventUnknown},
		{"sessions' events are kept once, found and dropped", sessionEvents},
		{"a node is kept under its name", nodes},
		{"a node that started again outlives its former self", nodeRestarted},
		{"nodes that are gone are dropped", dropNodes},
		{"a store that answers says so, a closed one does not", ping},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// noon is a time for all tests: the start of a minute.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func row(minute int, principal, server, method, name string, calls int64) store.Row {
	return store.Row{
		Start: noon.Add(time.Duration(minute) * time.Minute), Principal: principal, Server: server, Method: method, Name: name,
		Calls: calls, Errors: calls / 10, Micros: calls * 1000,
	}
}

func add(t *testing.T, s store.Store, node string, sequence uint64, rows ...store.Row) bool {
	t.Helper()
	added, err := s.AddUsage(t.Context(), store.Batch{Node: node, Sequence: sequence, At: noon, Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// all is everything, summed by by.
func all(by store.Dimensions) store.UsageQuery {
	return store.UsageQuery{Since: noon.Add(-24 * time.Hour), Until: noon.Add(24 * time.Hour), By: by, Limit: 1000}
}

func expect(t *testing.T, s store.Store, q store.UsageQuery, want ...store.Row) {
	t.Helper()
	var got []store.Row
	if err := s.SumUsage(t.Context(), q, func(r store.Row) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func batchOnce(t *testing.T, s store.Store) {
	one := row(0, "ann", "weather", "tools/call", "rain", 10)
	if !add(t, s, "a/1", 1, one) {
		t.Error("a new batch was not added")
	}
	if add(t, s, "a/1", 1, one) {
		t.Error("a batch was added twice")
	}
	if !add(t, s, "a/2", 1, one) {
		t.Error("the same sequence of another run was not added")
	}
	const large = 1<<64 - 1 // sequences are unsigned
	if !add(t, s, "a/1", large, one) || add(t, s, "a/1", large, one) {
		t.Error("the largest sequence was not added once")
	}
	if !add(t, s, "a/1", 0, one) {
		t.Error("a sequence that came late was not added")
	}
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: 40, Errors: 4, Micros: 40000})
}

func batchesAddUp(t *testing.T, s store.Store) {
	add(t, s, "a/1", 1, row(0, "ann", "weather", "tools/call", "rain", 10), row(0, "ann", "weather", "tools/call", "rain", 20))
	add(t, s, "b/1", 1, row(0, "ann", "weather", "tools/call", "rain", 30))
	expect(t, s, all(store.Dimensions{Start: true, Principal: true, Server: true, Method: true, Name: true}),
		row(0, "ann", "weather", "tools/call", "rain", 60))
}

func batchOnceConcurrently(t *testing.T, s store.Store) {
	var added atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := s.AddUsage(t.Context(), store.Batch{
				Node: "a/1", Sequence: 1, At: noon, Rows: []store.Row{row(0, "ann", "weather", "tools/call", "rain", 10)},
			})
			if err != nil {
				t.Error(err)
			}
			if ok {
				added.Add(1)
			}
		})
	}
	wg.Wait()
	if n := added.Load(); n != 1 {
		t.Errorf("added %d times", n)
	}
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: 10, Errors: 1, Micros: 10000})
}

func concurrentBatches(t *testing.T, s store.Store) {
	const writers, batches, names = 6, 10, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				var rows []store.Row
				for n := range names { // each in another order: they must not wait for each other in a ring
					rows = append(rows, row(0, "ann", "weather", "tools/call", fmt.Sprint((n*(2*w+1)+b)%names), 1))
				}
				_, err := s.AddUsage(t.Context(), store.Batch{Node: fmt.Sprint(w), Sequence: uint64(b), At: noon, Rows: rows})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: writers * batches * names, Micros: writers * batches * names * 1000})
}

func batchSizes(t *testing.T, s store.Store) {
	if !add(t, s, "a/1", 1) || add(t, s, "a/1", 1) {
		t.Error("an empty batch was not added once")
	}
	expect(t, s, all(store.Dimensions{}))
	rows := make([]store.Row, 10000)
	for i := range rows {
		rows[i] = row(i%60, "ann", "weather", "tools/call", fmt.Sprint(i), 1)
	}
	add(t, s, "a/1", 2, rows...)
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: 10000, Micros: 10000000})
}

func fill(t *testing.T, s store.Store) {
	t.Helper()
	add(t, s, "a/1", 1,
		row(0, "ann", "weather", "tools/call", "rain", 100),
		row(1, "ann", "weather", "tools/call", "wind", 20),
		row(0, "bob", "weather", "tools/call", "rain", 300),
		row(1, "bob", "files", "resources/read", "", 4000),
	)
}

func sums(t *testing.T, s store.Store) {
	fill(t, s)
	for _, c := range []struct {
		by   store.Dimensions
		want []store.Row
	}{
		{store.Dimensions{}, []store.Row{{Calls: 4420, Errors: 442, Micros: 4420000}}},
		{store.Dimensions{Principal: true}, []store.Row{
			{Principal: "bob", Calls: 4300, Errors: 430, Micros: 4300000},
			{Principal: "ann", Calls: 120, Errors: 12, Micros: 120000},
		}},
		{store.Dimensions{Start: true}, []store.Row{
			{Start: noon.Add(time.Minute), Calls: 4020, Errors: 402, Micros: 4020000},
			{Start: noon, Calls: 400, Errors: 40, Micros: 400000},
		}},
		{store.Dimensions{Server: true, Name: true}, []store.Row{
			{Server: "files", Calls: 4000, Errors: 400, Micros: 4000000},
			{Server: "weather", Name: "rain", Calls: 400, Errors: 40, Micros: 400000},
			{Server: "weather", Name: "wind", Calls: 20, Errors: 2, Micros: 20000},
		}},
		{store.Dimensions{Method: true}, []store.Row{
			{Method: "resources/read", Calls: 4000, Errors: 400, Micros: 4000000},
			{Method: "tools/call", Calls: 420, Errors: 42, Micros: 420000},
		}},
		{store.Dimensions{Start: true, Principal: true, Server: true, Method: true, Name: true}, []store.Row{
			row(1, "bob", "files", "resources/read", "", 4000),
			row(0, "bob", "weather", "tools/call", "rain", 300),
			row(0, "ann", "weather", "tools/call", "rain", 100),
			row(1, "ann", "weather", "tools/call", "wind", 20),
		}},
	} {
		expect(t, s, all(c.by), c.want...)
	}
}

func filters(t *testing.T, s store.Store) {
	fill(t, s)
	q := all(store.Dimensions{Principal: true})
	q.Server = "weather"
	expect(t, s, q,
		store.Row{Principal: "bob", Calls: 300, Errors: 30, Micros: 300000},
		store.Row{Principal: "ann", Calls: 120, Errors: 12, Micros: 120000})
	q.Principal = "ann"
	expect(t, s, q, store.Row{Principal: "ann", Calls: 120, Errors: 12, Micros: 120000})
	q.Principal = "nobody"
	expect(t, s, q)
}

func tenants(t *testing.T, s store.Store) {
	fill(t, s)
	of := func(r store.Row, tenant string) store.Row {
		r.Tenant = tenant
		return r
	}
	add(t, s, "a/1", 2, of(row(2, "ann", "weather", "tools/call", "rain", 10), "acme"), of(row(2, "cid", "files", "tools/call", "list", 30), "acme"))
	add(t, s, "a/1", 3, row(3, "ann", "weather", "tools/call", "rain", 10)) // by a node that knows no tenants
	by := all(store.Dimensions{Tenant: true})
	expect(t, s, by,
		store.Row{Calls: 4300, Errors: 430, Micros: 4300000},
		store.Row{Tenant: "acme", Calls: 170, Errors: 17, Micros: 170000})
	one := all(store.Dimensions{Principal: true})
	one.Tenant = "acme"
	expect(t, s, one,
		store.Row{Principal: "ann", Tenant: "acme", Calls: 140, Errors: 14, Micros: 140000},
		store.Row{Principal: "cid", Tenant: "acme", Calls: 30, Errors: 3, Micros: 30000})
	add(t, s, "a/1", 4, of(row(4, "ann", "weather", "tools/call", "rain", 10), "umbrella"))
	expect(t, s, by,
		store.Row{Calls: 4300, Errors: 430, Micros: 4300000},
		store.Row{Tenant: "umbrella", Calls: 150, Errors: 15, Micros: 150000},
		store.Row{Tenant: "acme", Calls: 30, Errors: 3, Micros: 30000})
}

func span(t *testing.T, s store.Store) {
	for i := range 4 {
		add(t, s, "a/1", uint64(i), row(i, "ann", "weather", "tools/call", "rain", 1<<i))
	}
	q := all(store.Dimensions{})
	for _, c := range []struct {
		since, until time.Duration
		calls        int64
	}{
		{0, 4 * time.Minute, 15},
		{time.Minute, 3 * time.Minute, 6},
		{time.Minute + time.Microsecond, 3*time.Minute + time.Microsecond, 12},
		{time.Minute - time.Microsecond, 3*time.Minute - time.Microsecond, 6},
		{time.Minute, time.Minute, 0},
		{2 * time.Minute, time.Minute, 0},
	} {
		q.Since, q.Until = noon.Add(c.since), noon.Add(c.until)
		var want []store.Row
		if c.calls > 0 {
			want = []store.Row{{Calls: c.calls, Micros: c.calls * 1000}}
		}
		expect(t, s, q, want...)
	}
}

func limit(t *testing.T, s store.Store) {
	add(t, s, "a/1", 1,
		row(0, "ann", "s", "m", "b", 5), row(0, "ann", "s", "m", "B", 5), row(0, "ann", "s", "m", "a", 5),
		row(0, "ann", "s", "m", "ä", 5), row(0, "ann", "s", "m", "z", 7), row(0, "ann", "s", "m", "_", 1))
	q := all(store.Dimensions{Name: true})
	q.Limit = 5
	expect(t, s, q,
		store.Row{Name: "z", Calls: 7, Micros: 7000},
		store.Row{Name: "B", Calls: 5, Micros: 5000}, // ties: byte by byte
		store.Row{Name: "a", Calls: 5, Micros: 5000},
		store.Row{Name: "b", Calls: 5, Micros: 5000},
		store.Row{Name: "ä", Calls: 5, Micros: 5000})
}

func textIsData(t *testing.T, s store.Store) {
	for i, text := range []string{`'; DROP TABLE metrics_usage; --`, `"`, `$1`, `%`, `\`, "a\nb", "日本語", "{1,2}", "NULL"} {
		r := row(0, text, text, text, text, 1)
		add(t, s, text, uint64(i), r)
		q := all(store.Dimensions{Start: true, Principal: true, Server: true, Method: true, Name: true})
		q.Principal, q.Server = text, text
		expect(t, s, q, r)
	}
}

func steps(t *testing.T, s store.Store) {
	for i, after := range []time.Duration{0, 59 * time.Minute, time.Hour, 12 * time.Hour, 40 * 24 * time.Hour} {
		r := row(0, "ann", "s", "m", "", 10)
		r.Start = noon.Add(after)
		add(t, s, "a/1", uint64(i), r)
	}
	q := store.UsageQuery{Step: store.Hour, Since: noon, Until: noon.Add(365 * 24 * time.Hour), By: store.Dimensions{Start: true}}
	at := func(after time.Duration, calls int64) store.Row {
		return store.Row{Start: noon.Add(after), Calls: calls, Errors: calls / 10, Micros: calls * 1000}
	}
	expect(t, s, q, at(0, 20), at(time.Hour, 10), at(12*time.Hour, 10), at(40*24*time.Hour, 10))
	q.Step, q.Since = store.Day, noon.Add(-12*time.Hour)
	days := []store.Row{at(-12*time.Hour, 30), at(12*time.Hour, 10), at(40*24*time.Hour-12*time.Hour, 10)}
	expect(t, s, q, days...)

	q.Step = store.Hour
	for _, step := range []store.Step{store.Minute, store.Hour} {
		if err := s.DropUsage(t.Context(), step, noon.Add(39*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, s, q, at(40*24*time.Hour, 10))
	q.Step = store.Day
	expect(t, s, q, days...)
	add(t, s, "a/1", 100, row(0, "ann", "s", "m", "", 10)) // a place that was dropped is made again
	q.Step = store.Hour
	expect(t, s, q, at(0, 10), at(40*24*time.Hour, 10))
}

func took(t *testing.T, s store.Store) {
	one, two, three := row(0, "ann", "s", "m", "", 10), row(1, "ann", "s", "m", "", 5), row(1, "ann", "s", "m", "", 2)
	one.Took = []store.Bucket{{Bucket: 0, Calls: 4}, {Bucket: 127, Calls: 6}}
	two.Took = []store.Bucket{{Bucket: 3, Calls: 1}, {Bucket: 127, Calls: 4}}
	add(t, s, "a/1", 1, one, two)
	add(t, s, "a/1", 2, three) // of a sender that does not say
	sum := store.Row{Calls: 17, Errors: 1, Micros: 17000, Took: []store.Bucket{{Bucket: 0, Calls: 4}, {Bucket: 3, Calls: 1}, {Bucket: 127, Calls: 10}}}
	q := all(store.Dimensions{})
	expect(t, s, q, sum)
	q.Step = store.Hour
	expect(t, s, q, sum)
}

func order(t *testing.T, s store.Store) {
	many := store.Row{Start: noon, Name: "many", Calls: 100, Errors: 1, Micros: 1000}
	slow := store.Row{Start: noon, Name: "slow", Calls: 2, Micros: 900}
	failing := store.Row{Start: noon, Name: "failing", Calls: 50, Errors: 50, Micros: 50}
	add(t, s, "a/1", 1, many, slow, failing)
	for o, want := range map[store.Order][]store.Row{
		store.ByCalls: {many, failing, slow}, store.ByErrors: {failing, many, slow}, store.ByLatency: {slow, many, failing},
	} {
		q := all(store.Dimensions{Start: true, Name: true})
		q.Order = o
		expect(t, s, q, want...)
	}
	q := all(store.Dimensions{Start: true, Name: true})
	q.Name = "slow"
	expect(t, s, q, slow)
	stop := errors.New("enough")
	if err := s.SumUsage(t.Context(), q, func(store.Row) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func dropUsage(t *testing.T, s store.Store) {
	old, kept := noon.Add(-time.Hour), noon
	for i, at := range []time.Time{old, kept} {
		r := row(0, "ann", "weather", "tools/call", "rain", 10)
		r.Start = at
		if _, err := s.AddUsage(t.Context(), store.Batch{Node: "a/1", Sequence: uint64(i), At: at, Rows: []store.Row{r}}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.DropBatches(t.Context(), noon); n != 1 || err != nil {
		t.Errorf("dropped %d batches, %v", n, err)
	}
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: 20, Errors: 2, Micros: 20000})
	if add(t, s, "a/1", 1, row(0, "ann", "weather", "tools/call", "rain", 10)) {
		t.Error("a batch that is young enough was forgotten")
	}
	if err := s.DropUsage(t.Context(), store.Minute, noon); err != nil {
		t.Error(err)
	}
	expect(t, s, all(store.Dimensions{}), store.Row{Calls: 10, Errors: 1, Micros: 10000})
}

func event(i int, at time.Time) store.Event {
	return store.Event{
		ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)).String(), At: at,
		Node: "erlmcp@a", Principal: "ann", Method: "/erlmcp.registry.v1.RegistryService/PutServer", Object: fmt.Sprint(i), Outcome: "OK",
	}
}

func events(t *testing.T, s store.Store, before string, limit int) []store.Event {
	t.Helper()
	got, err := s.Events(t.Context(), before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func eventOnce(t *testing.T, s store.Store) {
	one, two := event(1, noon), event(2, noon.Add(time.Microsecond))
	if err := s.AddEvents(t.Context(), []store.Event{one, one}); err != nil {
		t.Fatal(err)
	}
	changed := one
	changed.Outcome = "PermissionDenied"
	if err := s.AddEvents(t.Context(), []store.Event{changed, two}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddEvents(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Event{two, one}, events(t, s, "", 10)); diff != "" {
		t.Error(diff)
	}
	if err := s.DropEvents(t.Context(), two.At); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]store.Event{two}, events(t, s, "", 10)); diff != "" {
		t.Error(diff)
	}
}

func eventPages(t *testing.T, s store.Store) {
	var added []store.Event
	for i := range 25 {
		added = append(added, event(i, noon.Add(time.Duration(i/5)*time.Second))) // five at a time
	}
	if err := s.AddEvents(t.Context(), added); err != nil {
		t.Fatal(err)
	}
	var got []store.Event
	for before := ""; ; before = got[len(got)-1].ID {
		page := events(t, s, before, 4)
		got = append(got, page...)
		if len(page) < 4 || len(got) > len(added) {
			break
		}
	}
	if len(got) != len(added) {
		t.Fatalf("%d events", len(got))
	}
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if a.At.Before(b.At) || a.At.Equal(b.At) && a.ID <= b.ID {
			t.Errorf("%v %s comes before %v %s", a.At, a.ID, b.At, b.ID)
		}
	}
}

func eventUnknown(t *testing.T, s store.Store) {
	if _, err := s.Events(t.Context(), event(1, noon).ID, 10); !errors.Is(err, store.ErrNoEvent) {
		t.Error(err)
	}
}

func sessionEvents(t *testing.T, s store.Store) {
	made := func(i int, session, principal string) store.SessionEvent {
		return store.SessionEvent{
			ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)).String(), At: noon.Add(time.Duration(i) * time.Second),
			Node: "erlmcp@a", Session: session, Principal: principal, Kind: 3, Reason: "idle",
		}
	}
	one, two, three := made(1, "s1", "ann"), made(2, "s2", "bob"), made(3, "s1", "ann")
	for _, events := range [][]store.SessionEvent{{one, two}, {two, three, three}, nil} {
		if err := s.AddSessionEvents(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(q store.SessionQuery, want ...store.SessionEvent) {
		t.Helper()
		got, err := s.SessionEvents(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
	day := store.SessionQuery{Since: noon, Until: noon.Add(24 * time.Hour), Limit: 10}
	expect(day, three, two, one)
	q := day
	q.Limit = 2
	expect(q, three, two)
	q = day
	q.Principal = "ann"
	expect(q, three, one)
	q.Session = "s2"
	expect(q)
	q.Principal = ""
	expect(q, two)
	q = day
	q.Since, q.Until = one.At.Add(time.Microsecond), three.At
	expect(q, two)
	if err := s.DropSessionEvents(t.Context(), three.At); err != nil {
		t.Fatal(err)
	}
	expect(day, three)
}

func node(name string, started, seen time.Time) store.Node {
	return store.Node{
		Name: name, Roles: []string{"gateway", "session"}, Version: "3.0.0", Address: "10.0.0.1:9101", StartedAt: started, SeenAt: seen,
	}
}

func see(t *testing.T, s store.Store, n store.Node) {
	t.Helper()
	if err := s.SeeNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func expectNodes(t *testing.T, s store.Store, since time.Time, want ...store.Node) {
	t.Helper()
	got, err := s.NodesSince(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

func nodes(t *testing.T, s store.Store) {
	expectNodes(t, s, noon)
	a, b := node("b@1", noon, noon), node("B@1", noon, noon.Add(5*time.Second))
	see(t, s, a)
	see(t, s, b)
	expectNodes(t, s, noon, b, a)
	expectNodes(t, s, noon.Add(time.Microsecond), b)
	a.SeenAt, a.Version, a.Roles = noon.Add(9*time.Second), "3.0.1", nil
	see(t, s, a)
	expectNodes(t, s, noon.Add(time.Second), b, a)
	if err := s.ForgetNode(t.Context(), "b@1", noon); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetNode(t.Context(), "nobody@1", noon); err != nil {
		t.Fatal(err)
	}
	expectNodes(t, s, noon, b)
}

func nodeRestarted(t *testing.T, s store.Store) {
	again := node("a@1", noon.Add(time.Second), noon.Add(time.Second))
	see(t, s, node("a@1", noon, noon))
	see(t, s, again)
	if err := s.ForgetNode(t.Context(), "a@1", noon); err != nil { // the former self leaves, late
		t.Fatal(err)
	}
	expectNodes(t, s, noon, again)
}

func dropNodes(t *testing.T, s store.Store) {
	b := node("b@1", noon, noon)
	see(t, s, node("a@1", noon, noon.Add(-time.Hour)))
	see(t, s, b)
	if n, err := s.DropNodes(t.Context(), noon); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	expectNodes(t, s, noon.Add(-2*time.Hour), b)
}

func ping(t *testing.T, s store.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
}

// First are the migrations of the first release, those of a folder up to 00001.
func First(t testing.TB, folder string) fs.FS {
	t.Helper()
	const file = "migrations/00001_start.sql"
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{file: &fstest.MapFile{Data: text}}
}

// OldUsage is what the first release counted: Unix time of a minute, principal and calls.
var OldUsage = []struct {
	Minute    int64
	Principal string
	Calls     int64
}{
	{noon.Unix(), "ann", 10}, {noon.Add(time.Minute).Unix(), "ann", 20}, {noon.Add(time.Hour).Unix(), "ann", 40}, {noon.Add(time.Hour).Unix(), "bob", 80},
	{noon.AddDate(0, 1, 0).Unix(), "ann", 160}, {noon.AddDate(1, 0, 0).Unix(), "bob", 320},
}

// ExpectOldUsage checks that [OldUsage], counted in server s, method m and name n with a tenth of errors, is found in
// each step, and that what is counted since adds to it.
func ExpectOldUsage(t *testing.T, s store.Store) {
	t.Helper()
	add(t, s, "new/1", 1, row(0, "ann", "s", "m", "n", 30))
	at := func(start time.Time, calls int64) store.Row {
		return store.Row{Start: start, Calls: calls, Errors: calls / 10, Micros: calls * 1000}
	}
	q := store.UsageQuery{Since: noon.AddDate(0, 0, -1), Until: noon.AddDate(2, 0, 0), Principal: "ann", By: store.Dimensions{Start: true}, Limit: 1000}
	month := noon.AddDate(0, 1, 0)
	expect(t, s, q, at(month, 160), at(noon, 40), at(noon.Add(time.Hour), 40), at(noon.Add(time.Minute), 20)) // most calls first
	q.Step = store.Hour
	expect(t, s, q, at(month, 160), at(noon, 60), at(noon.Add(time.Hour), 40))
	q.Step = store.Day
	expect(t, s, q, at(month.Truncate(24*time.Hour), 160), at(noon.Truncate(24*time.Hour), 100))
	q.Principal, q.By = "", store.Dimensions{}
	expect(t, s, q, store.Row{Calls: 660, Errors: 66, Micros: 660_000})
	if err := s.DropUsage(t.Context(), store.Minute, noon.Add(30*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	q.Step = store.Minute
	expect(t, s, q, store.Row{Calls: 480, Errors: 48, Micros: 480_000})
}
