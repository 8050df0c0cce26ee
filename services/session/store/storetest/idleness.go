package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

func testIdleness(t *testing.T, open Open) {
	t.Run("an idle session ends with its events and counts no more", func(t *testing.T) {
		s := open(t, store.Limits{IdleTTL: brief, PrincipalSessions: 1, Sessions: 1})
		for range 3 {
			id := create(t, s, "a")
			if _, err := s.Append(t.Context(), id, "a", 1, "stream", []byte("m")); err != nil {
				wants(t, err, store.ErrNotFound) // the machine was slow
			}
			testkit.Eventually(t, func() bool {
				_, err := s.Get(t.Context(), id)
				return errors.Is(err, store.ErrNotFound)
			}, patience)
			_, err := s.Read(t.Context(), id, "stream", 0, 0)
			wants(t, err, store.ErrNotFound)
			testkit.Eventually(t, func() bool { // the two clocks that Redis reads differ by a millisecond
				err := s.Create(t.Context(), "a", record())
				if err != nil && !errors.Is(err, store.ErrLimit) {
					t.Fatal(err)
				}
				return err == nil
			}, patience)
			testkit.Eventually(t, func() bool { return s.Left() == 0 }, patience)
		}
	})

	t.Run("a session that is touched lives on", func(t *testing.T) {
		const idle = 2 * time.Second
		s := open(t, store.Limits{IdleTTL: idle, Sessions: 2})
		kept, left := create(t, s, "a"), create(t, s, "a")
		first, err := s.Append(t.Context(), kept, "a", 1, "stream", []byte("m"))
		must(t, err)
		testkit.Eventually(t, func() bool {
			lost, err := s.Touch(t.Context(), "a", []store.Hold{{ID: kept, Epoch: 1}})
			if err != nil || len(lost) > 0 {
				t.Fatalf("lost %v, error %v", lost, err)
			}
			_, err = s.Get(t.Context(), left)
			return errors.Is(err, store.ErrNotFound)
		}, patience)
		if got := get(t, s, kept); !got.UsedAt.After(got.CreatedAt) {
			t.Fatalf("created %v and used %v", got.CreatedAt, got.UsedAt)
		}
		page, err := s.Read(t.Context(), kept, "stream", first-1, 0)
		if err != nil || len(page.Events) != 1 {
			t.Fatalf("its events: %v, error %v", page, err)
		}
		testkit.Eventually(t, func() bool {
			sessions, _, err := s.List(t.Context(), "", 0)
			must(t, err)
			return len(sessions) == 1 && sessions[0].ID == kept
		}, patience)
	})

	t.Run("touching tells what is lost", func(t *testing.T) {
		s := open(t, store.Limits{})
		var holds []store.Hold
		for range 1200 { // more than one round trip holds
			holds = append(holds, store.Hold{ID: create(t, s, "a"), Epoch: 1})
		}
		claim(t, s, holds[7].ID, "b", 1)
		must(t, s.Delete(t.Context(), holds[1100].ID, "a", 1))
		lost, err := s.Touch(t.Context(), "a", holds)
		must(t, err)
		if len(lost) != 2 || lost[0] != holds[7].ID || lost[1] != holds[1100].ID {
			t.Fatalf("lost %v", lost)
		}
	})

	t.Run("ten thousand abandoned sessions leave nothing", func(t *testing.T) {
		const count, workers = 10_000, 8
		s := open(t, store.Limits{IdleTTL: 3 * time.Second})
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for i := range count / workers {
					made := record()
					made.Principal = uuid.NewString()
					made.State = map[string][]byte{"level": []byte("info")}
					if err := s.Create(t.Context(), "a", made); err != nil {
						t.Errorf("worker %d, session %d: %v", worker, i, err)
						return
					}
					if i%4 == 0 {
						if _, err := s.Append(t.Context(), made.ID, "a", 1, "stream", []byte("m")); err != nil {
							t.Errorf("worker %d, session %d: %v", worker, i, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		if s.Left() == 0 {
			t.Fatal("nothing was there")
		}
		testkit.Eventually(t, func() bool { return s.Left() == 0 }, 30*time.Second)
	})
}
