package storetest

import (
	"testing"

	"erlmcp.dev/services/session/store"
)

func testList(t *testing.T, open Open) {
	t.Run("pages hold each session once while others come and go", func(t *testing.T) {
		s := open(t, store.Limits{})
		join(t, s, "a")
		want := make(map[string]bool)
		for i := range 1100 {
			id := create(t, s, []string{"a", "gone"}[i%2])
			want[id] = true
		}
		seen := make(map[string]int)
		cursor := ""
		for pages := 0; ; pages++ {
			if pages > 1000 {
				t.Fatal("the list has no end")
			}
			page, next, err := s.List(t.Context(), cursor, 64)
			must(t, err)
			if len(page) > 64 {
				t.Fatalf("a page of %d", len(page))
			}
			for _, session := range page {
				seen[session.ID]++
				if session.Principal != "alice" || session.Owner.Epoch != 1 || session.CreatedAt.IsZero() || session.Owner.Alive != (session.Owner.Node == "a") {
					t.Fatalf("listed %+v", session)
				}
			}
			if next == "" {
				break
			}
			// One that is listed goes, and another comes.
			must(t, s.Delete(t.Context(), page[0].ID, page[0].Owner.Node, 1))
			create(t, s, "a")
			cursor = next
		}
		for id := range want {
			if seen[id] != 1 {
				t.Fatalf("session %s was listed %d times", id, seen[id])
			}
		}
	})

	t.Run("an empty store has an empty page", func(t *testing.T) {
		page, next, err := open(t, store.Limits{}).List(t.Context(), "", 0)
		if err != nil || len(page) != 0 || next != "" {
			t.Fatalf("got %v, %q, error %v", page, next, err)
		}
	})
}
