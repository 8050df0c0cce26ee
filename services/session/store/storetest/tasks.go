package storetest

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

func someTask() store.Task {
	return store.Task{ID: uuid.NewString(), Principal: "alice", Spec: []byte("spec"), State: []byte("first")}
}

// createTask makes a task of node at epoch 1.
func createTask(t testing.TB, s store.Store, node string) store.Task {
	t.Helper()
	made := someTask()
	must(t, s.CreateTask(t.Context(), node, made, time.Hour))
	return made
}

func getTask(t testing.TB, s store.Store, id string) store.HeldTask {
	t.Helper()
	found, err := s.GetTask(t.Context(), id)
	must(t, err)
	return found
}

func testTasks(t *testing.T, open Open) {
	each(t, open, map[string]func(*testing.T, Opened){
		"a task is found as it was made, with its owner": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			made := createTask(t, s, "a")
			want := store.HeldTask{Task: made, Owner: store.Owner{Node: "a", Address: "a.test:9102", Epoch: 1, Alive: true, Lease: lease.ID}}
			if diff := cmp.Diff(want, getTask(t, s, made.ID)); diff != "" {
				t.Fatal(diff)
			}
			wants(t, s.CreateTask(t.Context(), "b", made, time.Hour), store.ErrExists)
			must(t, s.DeleteTask(t.Context(), made.ID, "a", 1))
			_, err := s.GetTask(t.Context(), made.ID)
			wants(t, err, store.ErrNotFound)
		},
		"a saved state is found, and nothing else changes": func(t *testing.T, s Opened) {
			made := createTask(t, s, "a")
			must(t, s.SaveTask(t.Context(), made.ID, "a", 1, []byte("second")))
			made.State = []byte("second")
			if diff := cmp.Diff(made, getTask(t, s, made.ID).Task); diff != "" {
				t.Fatal(diff)
			}
		},
		"a task whose time is over is gone and leaves nothing, however much it is used": func(t *testing.T, s Opened) {
			made := someTask()
			must(t, s.CreateTask(t.Context(), "a", made, brief))
			testkit.Eventually(t, func() bool {
				return s.SaveTask(t.Context(), made.ID, "a", 1, []byte("again")) != nil
			}, patience)
			wants(t, s.SaveTask(t.Context(), made.ID, "a", 1, nil), store.ErrNotFound)
			testkit.Eventually(t, func() bool { return s.Left() == 0 }, patience)
		},
		"only its owner at its epoch writes": func(t *testing.T, s Opened) {
			made := createTask(t, s, "a")
			for _, write := range []func(node string, epoch uint64) error{
				func(node string, epoch uint64) error {
					return s.SaveTask(t.Context(), made.ID, node, epoch, []byte("x"))
				},
				func(node string, epoch uint64) error { return s.ReleaseTask(t.Context(), made.ID, node, epoch) },
				func(node string, epoch uint64) error { return s.DeleteTask(t.Context(), made.ID, node, epoch) },
			} {
				wants(t, write("b", 1), store.ErrFenced)
				wants(t, write("a", 2), store.ErrFenced)
			}
			for _, id := range []string{uuid.NewString(), "no id", ""} {
				wants(t, s.SaveTask(t.Context(), id, "a", 1, nil), store.ErrNotFound)
				_, err := s.ClaimTask(t.Context(), id, "a", 1)
				wants(t, err, store.ErrNotFound)
			}
		},
		"a task is claimed when its owner is gone, gave it up, or is the claimer": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			made := createTask(t, s, "a")
			_, err := s.ClaimTask(t.Context(), made.ID, "b", 1)
			wants(t, err, store.ErrOwned)
			must(t, s.Leave(t.Context(), lease))
			epoch, err := s.ClaimTask(t.Context(), made.ID, "b", 1)
			must(t, err)
			if epoch <= 1 {
				t.Fatalf("got epoch %d", epoch)
			}
			wants(t, s.SaveTask(t.Context(), made.ID, "a", 1, []byte("late")), store.ErrFenced)
			must(t, s.SaveTask(t.Context(), made.ID, "b", epoch, []byte("new")))
			join(t, s, "b")
			_, err = s.ClaimTask(t.Context(), made.ID, "b", 1)
			wants(t, err, store.ErrOwned)
			epoch, err = s.ClaimTask(t.Context(), made.ID, "b", epoch)
			must(t, err)
			must(t, s.ReleaseTask(t.Context(), made.ID, "b", epoch))
			must(t, s.ReleaseTask(t.Context(), made.ID, "b", epoch))
			wants(t, s.SaveTask(t.Context(), made.ID, "b", epoch, []byte("late")), store.ErrFenced)
			epoch, err = s.ClaimTask(t.Context(), made.ID, "c", epoch)
			must(t, err)
			if found := getTask(t, s, made.ID); string(found.State) != "new" || found.Owner.Node != "c" || found.Owner.Epoch != epoch {
				t.Fatalf("got %+v", found)
			}
		},
		"of many who claim one succeeds": func(t *testing.T, s Opened) {
			made := createTask(t, s, "gone")
			var claiming sync.WaitGroup
			won := make(chan string, 8)
			for _, node := range []string{"a", "b", "c", "d"} {
				join(t, s, node)
				claiming.Go(func() {
					if _, err := s.ClaimTask(t.Context(), made.ID, node, 1); err == nil {
						won <- node
					}
				})
			}
			claiming.Wait()
			if len(won) != 1 || getTask(t, s, made.ID).Owner.Node != <-won {
				t.Fatalf("%d more claimed it", len(won))
			}
		},
		"what is no task is refused": func(t *testing.T, s Opened) {
			for _, change := range []func(*store.Task){
				func(task *store.Task) { task.ID = "no id" },
				func(task *store.Task) { task.Principal = "" },
			} {
				made := someTask()
				change(&made)
				wants(t, s.CreateTask(t.Context(), "a", made, time.Hour), store.ErrInvalid)
			}
			wants(t, s.CreateTask(t.Context(), "a", someTask(), 0), store.ErrInvalid)
			wants(t, s.CreateTask(t.Context(), "", someTask(), time.Hour), store.ErrInvalid)
		},
	})
	t.Run("limits", func(t *testing.T) {
		s := open(t, store.Limits{Tasks: 3, PrincipalTasks: 2, TaskBytes: 20})
		var made []store.Task
		for range 2 {
			made = append(made, createTask(t, s, "a"))
		}
		wants(t, s.CreateTask(t.Context(), "a", someTask(), time.Hour), store.ErrLimit)
		other := someTask()
		other.Principal = "bob"
		must(t, s.CreateTask(t.Context(), "a", other, time.Hour))
		third := someTask()
		third.Principal = "carol"
		wants(t, s.CreateTask(t.Context(), "a", third, time.Hour), store.ErrLimit)
		must(t, s.DeleteTask(t.Context(), made[0].ID, "a", 1)) // and one fits again
		large := someTask()
		large.State = bytes.Repeat([]byte("x"), 17)
		wants(t, s.CreateTask(t.Context(), "a", large, time.Hour), store.ErrTooLarge)
		must(t, s.CreateTask(t.Context(), "a", someTask(), time.Hour))
		wants(t, s.SaveTask(t.Context(), made[1].ID, "a", 1, large.State), store.ErrTooLarge)
		must(t, s.SaveTask(t.Context(), made[1].ID, "a", 1, large.State[:16]))
	})
}
