package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

var errOurs = errors.New("ours")

func failedChange(t *testing.T, s store.Store) {
	version := put(t, s, server("a"))
	before := since(t, s, 0)
	_, err := s.Change(t.Context(), func(tx store.Tx) error {
		err := errors.Join(tx.PutServer(t.Context(), server("b"), tools("x")), tx.PutView(t.Context(), view("v")),
			tx.AddKey(t.Context(), key("k")), tx.DeleteServer(t.Context(), "a"))
		return errors.Join(err, errOurs)
	})
	isErr(t, "change", err, errOurs)
	same(t, "changes", since(t, s, 0), before)
	same(t, "changes since", since(t, s, version), &store.Changes{Version: version})
	change(t, s, func(tx store.Tx) error { return tx.PutServer(t.Context(), server("c"), tools("x")) })
}

func idleChange(t *testing.T, s store.Store) {
	version := put(t, s, server("a"))
	again := change(t, s, func(tx store.Tx) error {
		_, err := tx.Server(t.Context(), "a")
		return err
	})
	if again != version {
		t.Errorf("version %d became %d", version, again)
	}
}

func ownWrites(t *testing.T, s store.Store) {
	change(t, s, func(tx store.Tx) error {
		if err := tx.PutServer(t.Context(), server("a"), nil); err != nil {
			return err
		}
		if _, err := tx.Server(t.Context(), "a"); err != nil {
			return err
		}
		if err := tx.DeleteServer(t.Context(), "a"); err != nil {
			return err
		}
		_, err := tx.Server(t.Context(), "a")
		isErr(t, "after its deletion", err, store.ErrNotFound)
		return nil
	})
}

func concurrentChanges(t *testing.T, s store.Store) {
	const writers, each = 8, 10
	var mu sync.Mutex
	versions := map[uint64]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				in := server(fmt.Sprintf("s%d-%d", w, i))
				version, err := s.Change(t.Context(), func(tx store.Tx) error { return tx.PutServer(t.Context(), in, nil) })
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				versions[version] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got := slices.Sorted(maps.Keys(versions))
	if len(got) != writers*each || got[0] != 2 || got[len(got)-1] != writers*each+1 {
		t.Errorf("versions %v", got)
	}
}

func delta(t *testing.T, s store.Store) {
	a, b, c := server("a"), server("b"), server("c")
	base := change(t, s, func(tx store.Tx) error {
		return errors.Join(
			tx.PutServer(t.Context(), a, nil), tx.PutServer(t.Context(), b, nil), tx.PutServer(t.Context(), c, nil),
			tx.PutView(t.Context(), view("v")), tx.PutView(t.Context(), view("w")),
			tx.AddKey(t.Context(), key("k")), tx.AddKey(t.Context(), key("l")),
		)
	})
	b.Message = "changed"
	middle := put(t, s, b)
	last := change(t, s, func(tx store.Tx) error {
		return errors.Join(
			tx.DeleteServer(t.Context(), "a"), tx.DeleteView(t.Context(), "v"), tx.DeleteKey(t.Context(), "k"),
			tx.PutView(t.Context(), view("x", "b")), tx.AddKey(t.Context(), key("m")),
		)
	})
	want := &store.Changes{
		Version: last, Servers: []*store.Server{b}, Views: []*registryv1.View{view("x", "b")}, Keys: []*registryv1.KeyRecord{key("m")},
		RemovedServers: []string{"a"}, RemovedViews: []string{"v"}, RemovedKeys: []string{"k"},
	}
	same(t, "since all were there", since(t, s, base), want)
	want.Servers = nil
	same(t, "since the middle", since(t, s, middle), want)
	same(t, "since the last", since(t, s, last), &store.Changes{Version: last})
}

func readded(t *testing.T, s store.Store) {
	base := put(t, s, server("a"))
	change(t, s, func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "a") })
	again := server("a", "x")
	last := put(t, s, again)
	same(t, "changes", since(t, s, base), &store.Changes{Version: last, Servers: []*store.Server{again}})
}

func snapshots(t *testing.T, s store.Store) {
	in := server("a")
	put(t, s, server("gone"))
	put(t, s, in)
	last := change(t, s, func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "gone") })
	want := &store.Changes{Version: last, Snapshot: true, Servers: []*store.Server{in}}
	same(t, "since 0", since(t, s, 0), want)
	same(t, "since a version never reached", since(t, s, last+100), want)
}

func tooFarBehind(t *testing.T, open Open) {
	const keep = 5
	const last = 22 // 20 puts and a removal after version 1
	s := open(t, keep)
	in := server("a")
	for range 20 {
		put(t, s, in)
	}
	change(t, s, func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "a") })
	for version := uint64(1); version <= last; version++ {
		c := since(t, s, version)
		if want := version < last-keep; c.Snapshot != want {
			t.Errorf("since %d: snapshot %v", version, c.Snapshot)
		}
		if c.Version != last || len(c.Servers) != 0 {
			t.Errorf("since %d: version %d, servers %v", version, c.Version, c.Servers)
		}
	}
	for range 20 {
		put(t, s, server("b"))
	}
	if c := since(t, s, 20); !c.Snapshot {
		t.Errorf("the removal of long ago is still told: %v", c)
	}
}

// followConcurrently applies deltas as they can be read while several write, and compares the outcome.
func followConcurrently(t *testing.T, s store.Store) {
	ctx, done := context.WithCancel(t.Context())
	var writers, follower sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("s%d", (w+i)%6)
				in := server(name, fmt.Sprintf("tool-%d-%d", w, i))
				_, err := s.Change(ctx, func(tx store.Tx) error {
					if i%3 == 2 {
						if err := tx.DeleteServer(ctx, name); !errors.Is(err, store.ErrNotFound) {
							return err
						}
					}
					return tx.PutServer(ctx, in, nil)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	held := map[string]*store.Server{}
	var version uint64
	step := func() {
		c, err := s.Since(t.Context(), version)
		if err != nil {
			t.Error(err)
			return
		}
		if c.Version < version {
			t.Errorf("version %d after %d", c.Version, version)
		}
		if c.Snapshot {
			clear(held)
		}
		for _, one := range c.Servers {
			if one.Version <= version || one.Version > c.Version {
				t.Errorf("a server of version %d in a delta from %d to %d", one.Version, version, c.Version)
			}
			held[one.Spec.GetName()] = one
		}
		for _, name := range c.RemovedServers {
			delete(held, name)
		}
		version = c.Version
	}
	follower.Go(func() {
		for ctx.Err() == nil {
			step()
		}
	})
	writers.Wait()
	done()
	follower.Wait()
	step()
	final := map[string]*store.Server{}
	for _, one := range since(t, s, 0).Servers {
		final[one.Spec.GetName()] = one
	}
	same(t, "what the follower holds", held, final)
}

func listen(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Listen(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
	})
	wait := func(what string) {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Errorf("not woken %s", what)
		}
	}
	wait("at the start")
	put(t, s, server("a"))
	wait("by a change")
	cancel()
	wg.Wait()
}

func listenEnds(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Listen(ctx, cancel) // the first wake ends it
	if err == nil {
		t.Error("it ended without an error")
	}
}
