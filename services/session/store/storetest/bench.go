package storetest

import (
	"fmt"
	"testing"

	"erlmcp.dev/services/session/store"
)

// Bench measures what an owner does most.
func Bench(b *testing.B, open Open) {
	message := make([]byte, 512)
	b.Run("Append", func(b *testing.B) {
		s := open(b, store.Limits{})
		id := create(b, s, "a")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ { // a stream for every ten events, as requests have
			if _, err := s.Append(b.Context(), id, "a", 1, fmt.Sprint(i/10), message); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Get", func(b *testing.B) {
		s := open(b, store.Limits{})
		join(b, s, "a")
		made := record()
		made.State = map[string][]byte{"level": []byte("info"), "subs": message}
		must(b, s.Create(b.Context(), "a", made))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Get(b.Context(), made.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Save", func(b *testing.B) {
		s := open(b, store.Limits{})
		id := create(b, s, "a")
		changes := store.Changes{Set: map[string][]byte{"subs": message}}
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Save(b.Context(), id, "a", 1, changes); err != nil {
				b.Fatal(err)
			}
		}
	})
}
