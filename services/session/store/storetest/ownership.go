package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

// writes are all that an owner may do, each as one try.
func writes(t testing.TB, s store.Store, id, node string, epoch uint64) map[string]error {
	_, appended := s.Append(t.Context(), id, node, epoch, "stream", []byte("m"))
	return map[string]error{
		"append": appended,
		"close":  s.CloseStream(t.Context(), id, node, epoch, "other"),
		"save":   s.Save(t.Context(), id, node, epoch, store.Changes{Set: map[string][]byte{"by": []byte(node)}}),
		"delete": s.Delete(t.Context(), id, node, epoch),
	}
}

// fences fails the test unless the store refuses all of an owner's writes.
func fences(t testing.TB, s store.Store, id, node string, epoch uint64) {
	t.Helper()
	for name, err := range writes(t, s, id, node, epoch) {
		if !errors.Is(err, store.ErrFenced) {
			t.Errorf("%s by %s at epoch %d: got error %v, want %v", name, node, epoch, err, store.ErrFenced)
		}
	}
	lost, err := s.Touch(t.Context(), node, []store.Hold{{ID: id, Epoch: epoch}})
	if err != nil || len(lost) != 1 {
		t.Errorf("touch by %s at epoch %d: lost %v, error %v", node, epoch, lost, err)
	}
}

func claim(t testing.TB, s store.Store, id, node string, seen uint64) uint64 {
	t.Helper()
	epoch, err := s.Claim(t.Context(), id, node, seen)
	must(t, err)
	return epoch
}

func testOwnership(t *testing.T, open Open) {
	each(t, open, map[string]func(*testing.T, Opened){
		"only the owner at its epoch writes": func(t *testing.T, s Opened) {
			join(t, s, "a")
			id := create(t, s, "a")
			fences(t, s, id, "b", 1)
			fences(t, s, id, "a", 0)
			fences(t, s, id, "a", 2)
			wants(t, s.Release(t.Context(), id, "b", 1), store.ErrFenced)
			wants(t, s.Release(t.Context(), id, "a", 2), store.ErrFenced)
			for name, err := range writes(t, s, id, "a", 1) {
				if err != nil {
					t.Errorf("%s by the owner: %v", name, err)
				}
			}
		},
		"a session of a node that lives can't be claimed": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			id := create(t, s, "a")
			_, err := s.Claim(t.Context(), id, "b", 1)
			var owned *store.OwnedError
			if !errors.As(err, &owned) || !errors.Is(err, store.ErrOwned) {
				t.Fatalf("got %v", err)
			}
			if want := (store.Owner{Node: "a", Address: "a.test:9102", Epoch: 1, Alive: true, Lease: lease.ID}); owned.Owner != want || !owned.Owner.Holds() {
				t.Fatalf("the owner is %+v", owned.Owner)
			}
			must(t, s.Save(t.Context(), id, "a", 1, store.Changes{}))
		},
		"a lease that another node ends ends only if it still is the one that was seen": func(t *testing.T, s Opened) {
			join(t, s, "a")
			id := create(t, s, "a")
			seen := store.Lease{Node: store.Node{Name: "a"}, ID: get(t, s, id).Owner.Lease}
			now := join(t, s, "a") // it came back
			must(t, s.Leave(t.Context(), seen))
			if owner := get(t, s, id).Owner; !owner.Holds() || owner.Lease != now.ID {
				t.Fatalf("the owner is %+v", owner)
			}
			seen.ID = now.ID
			must(t, s.Leave(t.Context(), seen))
			if _, err := s.Claim(t.Context(), id, "b", 1); err != nil {
				t.Fatal(err)
			}
			wants(t, s.Beat(t.Context(), now), store.ErrLeaseLost)
		},
		"a session of a node that left can be claimed": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			join(t, s, "b")
			id := create(t, s, "a")
			must(t, s.Leave(t.Context(), lease))
			if owner := get(t, s, id).Owner; owner.Holds() || owner.Address != "" || owner.Node != "a" {
				t.Fatalf("the owner is %+v", owner)
			}
			epoch := claim(t, s, id, "b", 1)
			if epoch <= 1 {
				t.Fatalf("the new epoch is %d", epoch)
			}
			fences(t, s, id, "a", 1)
			if owner := get(t, s, id).Owner; owner.Node != "b" || owner.Epoch != epoch || !owner.Holds() {
				t.Fatalf("the owner is %+v", owner)
			}
			must(t, s.Save(t.Context(), id, "b", epoch, store.Changes{}))
		},
		"a session of a node whose lease ran out can be claimed": func(t *testing.T, s Opened) {
			_, err := s.Join(t.Context(), store.Node{Name: "a", Address: "a:1"}, brief)
			must(t, err)
			id := create(t, s, "a")
			testkit.Eventually(t, func() error {
				_, err := s.Claim(t.Context(), id, "b", 1)
				return err
			}, patience)
			join(t, s, "a") // it wakes up
			fences(t, s, id, "a", 1)
		},
		"a released session can be claimed and written by nobody until then": func(t *testing.T, s Opened) {
			join(t, s, "a")
			id := create(t, s, "a")
			must(t, s.Release(t.Context(), id, "a", 1))
			must(t, s.Release(t.Context(), id, "a", 1))
			fences(t, s, id, "a", 1)
			if owner := get(t, s, id).Owner; owner.Holds() || !owner.Released || !owner.Alive {
				t.Fatalf("the owner is %+v", owner)
			}
			epoch := claim(t, s, id, "b", 1)
			if epoch <= 1 {
				t.Fatalf("the new epoch is %d", epoch)
			}
			if owner := get(t, s, id).Owner; owner.Released {
				t.Fatal("it is still released")
			}
			must(t, s.Save(t.Context(), id, "b", epoch, store.Changes{}))
		},
		"a node that came back claims its own and fences its past": func(t *testing.T, s Opened) {
			join(t, s, "a")
			id := create(t, s, "a")
			join(t, s, "a")
			if epoch := claim(t, s, id, "a", 1); epoch <= 1 {
				t.Fatalf("the new epoch is %d", epoch)
			}
			fences(t, s, id, "a", 1)
		},
		"a claim with an old epoch fails and tells the present": func(t *testing.T, s Opened) {
			id := create(t, s, "a") // nobody ever joined
			epoch := claim(t, s, id, "b", 1)
			for _, seen := range []uint64{0, 1, epoch + 1} {
				_, err := s.Claim(t.Context(), id, "c", seen)
				var owned *store.OwnedError
				if !errors.As(err, &owned) || owned.Owner.Node != "b" || owned.Owner.Epoch != epoch || owned.Owner.Holds() {
					t.Fatalf("seen %d: got %v", seen, err)
				}
			}
			claim(t, s, id, "c", epoch)
		},
		"one of many claimants succeeds": func(t *testing.T, s Opened) {
			const claimants = 16
			id := create(t, s, "gone")
			leases := make([]store.Lease, claimants)
			for i := range leases {
				leases[i] = join(t, s, fmt.Sprint("node", i))
			}
			epoch := uint64(1)
			for round := range 5 {
				var mu sync.Mutex
				var winners []string
				next := epoch
				var wg sync.WaitGroup
				for _, lease := range leases {
					wg.Go(func() {
						got, err := s.Claim(t.Context(), id, lease.Node.Name, epoch)
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && got > epoch:
							winners = append(winners, lease.Node.Name)
							next = got
						case err == nil || !errors.Is(err, store.ErrOwned):
							t.Errorf("epoch %d, error %v", got, err)
						}
					})
				}
				wg.Wait()
				if len(winners) != 1 {
					t.Fatalf("round %d: the winners are %v", round, winners)
				}
				if owner := get(t, s, id).Owner; owner.Node != winners[0] || owner.Epoch != next {
					t.Fatalf("round %d: %s won and the owner is %+v", round, winners[0], owner)
				}
				epoch = next
				must(t, s.Release(t.Context(), id, winners[0], epoch))
			}
		},
		"a new owner finds state and events": func(t *testing.T, s Opened) {
			id := create(t, s, "a")
			must(t, s.Save(t.Context(), id, "a", 1, store.Changes{Set: map[string][]byte{"level": []byte("debug")}}))
			first, err := s.Append(t.Context(), id, "a", 1, "stream", []byte("one"))
			must(t, err)
			epoch := claim(t, s, id, "b", 1)
			if level := get(t, s, id).State["level"]; string(level) != "debug" {
				t.Fatalf("level %q", level)
			}
			second, err := s.Append(t.Context(), id, "b", epoch, "stream", []byte("two"))
			must(t, err)
			if second <= first {
				t.Fatalf("event %d follows %d", second, first)
			}
			page, err := s.Read(t.Context(), id, "stream", 0, 0)
			must(t, err)
			if len(page.Events) != 2 {
				t.Fatalf("got %v", page)
			}
		},
	})

	t.Run("a claim is a use", func(t *testing.T) {
		const idle = 2 * time.Second
		s := open(t, store.Limits{IdleTTL: idle})
		id := create(t, s, "a")
		epoch := uint64(1)
		start := time.Now()
		testkit.Eventually(t, func() bool {
			epoch = claim(t, s, id, "a", epoch)
			return time.Since(start) > idle+idle/4
		}, patience)
		if sessions, _, err := s.List(t.Context(), "", 0); err != nil || len(sessions) != 1 {
			t.Fatalf("listed %v, error %v", sessions, err)
		}
	})
}
