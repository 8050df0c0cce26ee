package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
)

func testSessions(t *testing.T, open Open) {
	each(t, open, map[string]func(*testing.T, Opened){
		"a session is found as it was created": func(t *testing.T, s Opened) {
			lease := join(t, s, "a")
			made := store.Record{
				ID: uuid.NewString(), Principal: "user {1}:\n", Version: "2025-06-18", View: "tools",
				Capabilities: []byte(`{"roots":{}}`), ClientInfo: []byte(`{"name":"ide"}`),
				State: map[string][]byte{"level": []byte("info"), "upstream/x": {0, 1, 255}, "empty": {}},
			}
			must(t, s.Create(t.Context(), "a", made))
			got := get(t, s, made.ID)
			if age := time.Since(got.CreatedAt); age < -time.Minute || age > time.Minute || !got.UsedAt.Equal(got.CreatedAt) {
				t.Errorf("created %v, used %v", got.CreatedAt, got.UsedAt)
			}
			made.CreatedAt, made.UsedAt = got.CreatedAt, got.UsedAt
			want := store.Session{Record: made, Owner: store.Owner{Node: "a", Address: "a.test:9102", Epoch: 1, Alive: true, Lease: lease.ID}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		},
		"an id is used once": func(t *testing.T, s Opened) {
			made := record()
			must(t, s.Create(t.Context(), "a", made))
			wants(t, s.Create(t.Context(), "b", made), store.ErrExists)
			if owner := get(t, s, made.ID).Owner.Node; owner != "a" {
				t.Fatalf("now it is %s's", owner)
			}
			sessions, _, err := s.List(t.Context(), "", 0)
			if err != nil || len(sessions) != 1 {
				t.Fatalf("listed %v, error %v", sessions, err)
			}
		},
		"what is no session is not found": func(t *testing.T, s Opened) {
			for _, id := range []string{uuid.NewString(), "", "}{", strings.Repeat("x", 1000)} {
				_, err := s.Get(t.Context(), id)
				wants(t, err, store.ErrNotFound)
				_, err = s.Claim(t.Context(), id, "a", 1)
				wants(t, err, store.ErrNotFound)
				_, err = s.Append(t.Context(), id, "a", 1, "stream", []byte("m"))
				wants(t, err, store.ErrNotFound)
				_, err = s.Read(t.Context(), id, "stream", 0, 0)
				wants(t, err, store.ErrNotFound)
				wants(t, s.CloseStream(t.Context(), id, "a", 1, "stream"), store.ErrNotFound)
				wants(t, s.Save(t.Context(), id, "a", 1, store.Changes{}), store.ErrNotFound)
				wants(t, s.Release(t.Context(), id, "a", 1), store.ErrNotFound)
				wants(t, s.Delete(t.Context(), id, "a", 1), store.ErrNotFound)
				lost, err := s.Touch(t.Context(), "a", []store.Hold{{ID: id, Epoch: 1}})
				if err != nil || len(lost) != 1 || lost[0] != id {
					t.Fatalf("touching %q lost %v, error %v", id, lost, err)
				}
			}
		},
		"a bad record is refused": func(t *testing.T, s Opened) {
			for _, change := range []func(*store.Record){
				func(r *store.Record) { r.ID = "" },
				func(r *store.Record) { r.ID = "a}b" },
				func(r *store.Record) { r.Principal = "" },
				func(r *store.Record) { r.State = map[string][]byte{"": nil} },
			} {
				bad := record()
				change(&bad)
				wants(t, s.Create(t.Context(), "a", bad), store.ErrInvalid)
			}
			wants(t, s.Create(t.Context(), "", record()), store.ErrInvalid)
		},
		"state changes in one step": func(t *testing.T, s Opened) {
			made := record()
			made.State = map[string][]byte{"stays": []byte("1"), "changes": []byte("2"), "goes": []byte("3"), "both": []byte("4")}
			must(t, s.Create(t.Context(), "a", made))
			must(t, s.Save(t.Context(), made.ID, "a", 1, store.Changes{
				Set:    map[string][]byte{"changes": []byte("new"), "comes": []byte("5"), "both": []byte("set")},
				Remove: []string{"goes", "goes", "never there", "both"},
			}))
			want := map[string][]byte{"stays": []byte("1"), "changes": []byte("new"), "comes": []byte("5"), "both": []byte("set")}
			if diff := cmp.Diff(want, get(t, s, made.ID).State); diff != "" {
				t.Fatal(diff)
			}
		},
		"a deleted session leaves nothing": func(t *testing.T, s Opened) {
			before := s.Left()
			id := create(t, s, "a")
			_, err := s.Append(t.Context(), id, "a", 1, "stream", []byte("m"))
			must(t, err)
			must(t, s.Delete(t.Context(), id, "a", 1))
			_, err = s.Get(t.Context(), id)
			wants(t, err, store.ErrNotFound)
			wants(t, s.Delete(t.Context(), id, "a", 1), store.ErrNotFound)
			if left := s.Left(); left != before {
				t.Fatalf("%d things are left", left-before)
			}
		},
	})

	t.Run("state has bounds and a refused change changes nothing", func(t *testing.T) {
		s := open(t, store.Limits{StateValues: 2, StateBytes: 20})
		id := create(t, s, "a")
		save := func(name, value string, remove ...string) error {
			return s.Save(t.Context(), id, "a", 1, store.Changes{Set: map[string][]byte{name: []byte(value)}, Remove: remove})
		}
		must(t, save("one", "1"))
		must(t, save("two", "2"))
		wants(t, save("three", "3", "never there"), store.ErrTooLarge)
		must(t, save("three", "3", "two"))
		wants(t, save("one", strings.Repeat("x", 12)), store.ErrTooLarge) // 3 + 12 + 5 + 1
		must(t, save("one", strings.Repeat("x", 11)))
		must(t, save("one", "small"))
		must(t, save("three", "123456"))
		wants(t, s.Save(t.Context(), id, "a", 1, store.Changes{Set: map[string][]byte{"": nil}}), store.ErrInvalid)
		want := map[string][]byte{"one": []byte("small"), "three": []byte("123456")}
		if diff := cmp.Diff(want, get(t, s, id).State); diff != "" {
			t.Fatal(diff)
		}
		big := record()
		big.State = map[string][]byte{"one": make([]byte, 100)}
		wants(t, s.Create(t.Context(), "a", big), store.ErrTooLarge)
	})

	t.Run("a principal has so many sessions and no more", func(t *testing.T) {
		s := open(t, store.Limits{PrincipalSessions: 2})
		first := create(t, s, "a")
		create(t, s, "b")
		err := s.Create(t.Context(), "a", record())
		var limit *store.LimitError
		if !errors.As(err, &limit) || limit.Principal != "alice" || limit.Most != 2 || !errors.Is(err, store.ErrLimit) {
			t.Fatalf("got %v", err)
		}
		other := record()
		other.Principal = "bob"
		must(t, s.Create(t.Context(), "a", other))
		must(t, s.Delete(t.Context(), first, "a", 1))
		create(t, s, "a")
	})

	t.Run("there are so many sessions and no more", func(t *testing.T) {
		s := open(t, store.Limits{Sessions: 2})
		first := create(t, s, "a")
		create(t, s, "a")
		err := s.Create(t.Context(), "a", record())
		var limit *store.LimitError
		if !errors.As(err, &limit) || limit.Principal != "" || limit.Most != 2 {
			t.Fatalf("got %v", err)
		}
		must(t, s.Delete(t.Context(), first, "a", 1))
		create(t, s, "a")
	})
}
