package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"erlmcp.dev/services/session/store"
)

func testProperties(t *testing.T, open Open) {
	t.Run("epochs grow and no write of an old epoch lands", func(t *testing.T) {
		s := open(t, store.Limits{})
		rapid.Check(t, func(r *rapid.T) { ownershipProperty(t, r, s) })
	})
	t.Run("a reader gets every event or is told that it can't", func(t *testing.T) {
		limits := store.Limits{Events: 8, EventBytes: 60, TrimmedStreams: 3}
		s := open(t, limits)
		rapid.Check(t, func(r *rapid.T) { eventsProperty(t, r, s, limits) })
	})
}

// ownershipProperty lets three nodes that come and go do what they want, each with the newest epoch that it
// ever got, and compares what lands with what should.
func ownershipProperty(t *testing.T, r *rapid.T, s store.Store) {
	ctx := t.Context()
	names := make([]string, 3)
	leases := make([]store.Lease, 3)
	alive := make([]bool, 3)
	for i := range names {
		names[i] = uuid.NewString()
	}
	made := record()
	check(r, s.Create(ctx, names[0], made))
	held := []uint64{1, 0, 0} // what each node believes
	defer func() {
		if found, err := s.Get(ctx, made.ID); err == nil {
			_ = s.Delete(ctx, made.ID, found.Owner.Node, found.Owner.Epoch)
		}
	}()
	owner, epoch, released, value := 0, uint64(1), false, ""

	node := rapid.IntRange(0, 2)
	writes := 0
	r.Repeat(map[string]func(*rapid.T){
		"join": func(r *rapid.T) {
			i := node.Draw(r, "node")
			lease, err := s.Join(ctx, store.Node{Name: names[i], Address: "x:1"}, time.Hour)
			check(r, err)
			leases[i], alive[i] = lease, true
		},
		"leave": func(r *rapid.T) {
			i := node.Draw(r, "node")
			check(r, s.Leave(ctx, leases[i]))
			alive[i] = false
		},
		"claim": func(r *rapid.T) {
			i := node.Draw(r, "node")
			seen := epoch
			if rapid.Bool().Draw(r, "stale") {
				seen = held[i]
			}
			got, err := s.Claim(ctx, made.ID, names[i], seen)
			allowed := seen == epoch && (i == owner || released || !alive[owner])
			switch {
			case allowed && (err != nil || got <= epoch):
				r.Fatalf("the claim gave epoch %d after %d, error %v", got, epoch, err)
			case !allowed && !errors.Is(err, store.ErrOwned):
				r.Fatalf("node %d claimed from %d: %v", i, owner, err)
			case allowed:
				owner, epoch, released = i, got, false
				held[i] = got
			}
		},
		"release": func(r *rapid.T) {
			i := node.Draw(r, "node")
			err := s.Release(ctx, made.ID, names[i], held[i])
			mine := i == owner && held[i] == epoch
			if mine != (err == nil) {
				r.Fatalf("node %d at epoch %d of %d: %v", i, held[i], epoch, err)
			}
			released = released || mine
		},
		"save": func(r *rapid.T) {
			i := node.Draw(r, "node")
			writes++
			text := fmt.Sprint(writes)
			err := s.Save(ctx, made.ID, names[i], held[i], store.Changes{Set: map[string][]byte{"v": []byte(text)}})
			mine := i == owner && held[i] == epoch && !released
			if mine != (err == nil) || err != nil && !errors.Is(err, store.ErrFenced) {
				r.Fatalf("node %d at epoch %d of %d: %v", i, held[i], epoch, err)
			}
			if mine {
				value = text
			}
		},
		"": func(r *rapid.T) {
			found, err := s.Get(ctx, made.ID)
			check(r, err)
			want := store.Owner{Node: names[owner], Epoch: epoch, Released: released, Alive: alive[owner]}
			if want.Alive {
				want.Address = "x:1"
			}
			found.Owner.Lease = "" // chance made it
			if found.Owner != want || string(found.State["v"]) != value {
				r.Fatalf("found %+v with %q, want %+v with %q", found.Owner, found.State["v"], want, value)
			}
		},
	})
}

// eventsProperty compares a session's log with a list of everything that was ever appended.
func eventsProperty(t *testing.T, r *rapid.T, s store.Store, limits store.Limits) {
	ctx := t.Context()
	made := record()
	check(r, s.Create(ctx, "a", made))
	defer func() { _ = s.Delete(ctx, made.ID, "a", 1) }()
	type event struct {
		seq     uint64
		stream  string
		message string
		closes  bool
	}
	var kept, trimmed []event
	trim := func() {
		for {
			size := 0
			for _, e := range kept {
				size += len(e.message)
			}
			if len(kept) <= limits.Events && size <= limits.EventBytes {
				return
			}
			trimmed = append(trimmed, kept[0])
			kept = kept[1:]
		}
	}
	closed := func(stream string) bool {
		for _, e := range kept {
			if e.stream == stream && e.closes {
				return true
			}
		}
		return false
	}
	last := uint64(0)
	// With few streams none is ever forgotten, and the store must know exactly.
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	exact := rapid.Bool().Draw(r, "few streams")
	if exact {
		names = names[:limits.TrimmedStreams]
	}
	stream := rapid.SampledFrom(names)
	r.Repeat(map[string]func(*rapid.T){
		"append": func(r *rapid.T) {
			name := stream.Draw(r, "stream")
			sizes := rapid.SliceOfN(rapid.IntRange(0, 30), 1, 4).Draw(r, "sizes")
			messages := make([][]byte, len(sizes))
			for i, size := range sizes {
				messages[i] = make([]byte, size)
			}
			first, err := s.Append(ctx, made.ID, "a", 1, name, messages...)
			if closed(name) {
				if !errors.Is(err, store.ErrClosed) {
					r.Fatalf("a closed stream took events: %v", err)
				}
				return
			}
			check(r, err)
			if first <= last {
				r.Fatalf("event %d follows %d", first, last)
			}
			for i := range messages {
				last = first + uint64(i)
				kept = append(kept, event{seq: last, stream: name, message: string(messages[i])})
			}
			trim()
		},
		"close": func(r *rapid.T) {
			name := stream.Draw(r, "stream")
			check(r, s.CloseStream(ctx, made.ID, "a", 1, name))
			if !closed(name) {
				last++ // a closing is numbered like an event
				kept = append(kept, event{seq: last, stream: name, closes: true})
				trim()
			}
		},
		"read": func(r *rapid.T) {
			name := stream.Draw(r, "stream")
			after := rapid.Uint64Range(0, last+2).Draw(r, "after")
			limit := rapid.IntRange(1, 10).Draw(r, "limit")
			missed, doubtful := false, false
			for _, e := range trimmed {
				missed = missed || e.stream == name && e.seq > after
				doubtful = doubtful || !exact && e.seq > after
			}
			var want []event
			for _, e := range kept {
				if e.stream == name && e.seq > after && !e.closes && len(want) < limit {
					want = append(want, e)
				}
			}
			page, err := s.Read(ctx, made.ID, name, after, limit)
			if errors.Is(err, store.ErrGone) {
				if !missed && !doubtful {
					r.Fatalf("stream %s after %d: nothing was missed", name, after)
				}
				return
			}
			check(r, err)
			if missed {
				r.Fatalf("stream %s after %d: an event is missing and nobody says so", name, after)
			}
			if len(page.Events) != len(want) {
				r.Fatalf("stream %s after %d: got %d events, want %d", name, after, len(page.Events), len(want))
			}
			for i, e := range want {
				if page.Events[i].Seq != e.seq || string(page.Events[i].Message) != e.message {
					r.Fatalf("stream %s after %d: event %d differs", name, after, i)
				}
			}
			if page.Closed && !closed(name) {
				r.Fatalf("stream %s is said to be closed", name)
			}
		},
	})
}

func check(r *rapid.T, err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}
