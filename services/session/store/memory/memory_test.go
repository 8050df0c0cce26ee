package memory

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(_ testing.TB, limits store.Limits) storetest.Opened {
	s := New(limits)
	return storetest.Opened{Store: s, Left: s.left}
}

// left counts all that the store holds, after a sweep.
func (s *Store) left() int {
	s.lock()
	defer s.mu.Unlock()
	return len(s.sessions) + len(s.leases) + len(s.principals) + s.idle.Len() + len(s.ids.blocks) + len(s.results.byKey) + len(s.results.of) + s.results.ends.Len() +
		len(s.tasks.all) + len(s.tasks.ends) + len(s.tasks.principals)
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

func TestTimesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(store.Limits{IdleTTL: time.Minute})
		lease, err := s.Join(t.Context(), store.Node{Name: "a"}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), "a", store.Record{ID: "one", Principal: "p"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second - 1)
		if err := s.Beat(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.Beat(t.Context(), lease); err == nil {
			t.Fatal("the lease lives too long")
		}
		time.Sleep(time.Minute - 2*time.Second)
		if _, err := s.Get(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := s.Get(t.Context(), "one"); err == nil {
			t.Fatal("the session lives too long")
		}
		if left := s.left(); left != 0 {
			t.Fatalf("%d things are left", left)
		}
	})
}

func TestAnOrderedSetIsOne(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var set ordered
		var want []string
		member := rapid.StringMatching(`[a-d]{1,6}`)
		for _, s := range rapid.SliceOfN(member, 0, 3000).Draw(r, "insert") {
			set.insert(s)
			if at, found := slices.BinarySearch(want, s); !found {
				want = slices.Insert(want, at, s)
			}
		}
		for _, s := range rapid.SliceOfN(member, 0, 500).Draw(r, "remove") {
			set.remove(s)
			if at, found := slices.BinarySearch(want, s); found {
				want = slices.Delete(want, at, at+1)
			}
		}
		after := member.Draw(r, "after")
		at, found := slices.BinarySearch(want, after)
		if found {
			at++
		}
		if got := slices.Collect(set.after(after)); !slices.Equal(got, want[at:]) {
			r.Fatalf("after %q: got %d members, want %d", after, len(got), len(want)-at)
		}
	})
}
