package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

// brief is a lease or an idle time that a test waits for to end.
const brief = 60 * time.Millisecond

// patience is how long a test waits before it calls something that should happen missing.
const patience = 10 * time.Second

func testLeases(t *testing.T, open Open) {
	each(t, open, map[string]func(*testing.T, Opened){
		"a node that joined is known by its address": func(t *testing.T, s Opened) {
			join(t, s, "b")
			join(t, s, "a")
			got, err := s.Nodes(t.Context())
			must(t, err)
			want := []store.Node{{Name: "a", Address: "a.test:9102"}, {Name: "b", Address: "b.test:9102"}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		},
		"a node that left is gone": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			must(t, s.Leave(t.Context(), lease))
			if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 0 {
				t.Fatalf("got %v, error %v", nodes, err)
			}
			wants(t, s.Beat(t.Context(), lease), store.ErrLeaseLost)
			must(t, s.Leave(t.Context(), lease))
		},
		"a lease that is not renewed runs out and leaves nothing": func(t *testing.T, s Opened) {
			lease, err := s.Join(t.Context(), store.Node{Name: "a", Address: "a:1"}, brief)
			must(t, err)
			testkit.Eventually(t, func() bool {
				nodes, err := s.Nodes(t.Context())
				must(t, err)
				return len(nodes) == 0
			}, patience)
			testkit.Eventually(t, func() bool { return s.Left() == 0 }, patience)
			wants(t, s.Beat(t.Context(), lease), store.ErrLeaseLost)
		},
		"a lease that is renewed lives on": func(t *testing.T, s Opened) {
			const ttl = time.Second
			lease, err := s.Join(t.Context(), store.Node{Name: "a", Address: "a:1"}, ttl)
			must(t, err)
			start := time.Now()
			testkit.Eventually(t, func() bool {
				must(t, s.Beat(t.Context(), lease))
				return time.Since(start) > ttl+ttl/4
			}, patience)
			if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 1 {
				t.Fatalf("got %v, error %v", nodes, err)
			}
		},
		"a node that comes back replaces its lease": func(t *testing.T, s Opened) {
			old := join(t, s, "a")
			lease, err := s.Join(t.Context(), store.Node{Name: "a", Address: "elsewhere:1"}, time.Hour)
			must(t, err)
			wants(t, s.Beat(t.Context(), old), store.ErrLeaseLost)
			must(t, s.Leave(t.Context(), old)) // and that ends nothing
			must(t, s.Beat(t.Context(), lease))
			nodes, err := s.Nodes(t.Context())
			must(t, err)
			if len(nodes) != 1 || nodes[0].Address != "elsewhere:1" {
				t.Fatalf("got %v", nodes)
			}
		},
		"a lease without a name or a time is refused": func(t *testing.T, s Opened) {
			_, err := s.Join(t.Context(), store.Node{Address: "a:1"}, time.Hour)
			wants(t, err, store.ErrInvalid)
			_, err = s.Join(t.Context(), store.Node{Name: "a"}, 0)
			wants(t, err, store.ErrInvalid)
		},
		"the store is ready": func(t *testing.T, s Opened) { must(t, s.Ready(t.Context())) },
	})
}
