package registry_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/store/postgres"
	"erlmcp.dev/shared/testkit"
)

func TestWhatOneReplicaAcceptsReachesTheWatchersOfAll(t *testing.T) {
	open := onPostgres(t)
	up := newUpstreams()
	one, two := start(t, quick(open(), up)), start(t, quick(open(), up))
	w1, w2 := one.watch(t), two.watch(t)
	up.offer("a", "x")
	up.offer("b", "x")
	one.register(t, spec("a"))
	w2.until(t, "a at two", func() bool { return w2.servers["a"] != nil })
	two.register(t, spec("b"))
	w1.until(t, "b at one", func() bool { return w1.servers["b"] != nil })
	made, err := two.CreateKey(t.Context(), &registryv1.CreateKeyRequest{Principal: "p"})
	if err != nil {
		t.Fatal(err)
	}
	w1.until(t, "the key at one", func() bool { return len(w1.keys) == 1 })
	if _, err := one.RevokeKey(t.Context(), &registryv1.RevokeKeyRequest{Id: made.Key.Id}); err != nil {
		t.Fatal(err)
	}
	w2.until(t, "the key is gone at two", func() bool { return len(w2.keys) == 0 && w2.version > 4 })

	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() { write(t, []*replica{one, two}[writer%2], up, writer, 20) })
	}
	wg.Wait()
	one.register(t, spec("last"))
	w2.until(t, "the last change", func() bool { return w2.servers["last"] != nil })
	testkit.Eventually(t, func() bool {
		w1.mu.Lock()
		defer w1.mu.Unlock()
		w2.mu.Lock()
		defer w2.mu.Unlock()
		return w1.version == w2.version
	}, patience)
	sameCatalogue(t, w1, w2)
}

// apart gives each replica its own eyes on the servers, so that one sees who asks.
func apart(t *testing.T, open func() store.Store) (replicas [2]*replica, asked [2]*upstreams) {
	for i := range replicas {
		asked[i] = newUpstreams()
		asked[i].offer("a", "x")
		c := quick(open(), asked[i])
		c.ProbeInterval = 10 * time.Millisecond
		c.Declared = []*registryv1.Server{spec("a")}
		replicas[i] = start(t, c)
		replicas[i].becomes(t, "a", ready) // so the first one leads
	}
	return replicas, asked
}

func TestOneReplicaProbesAndAnotherTakesOverWhenItStops(t *testing.T) {
	replicas, asked := apart(t, onPostgres(t))
	probes := asked[0].timesAsked("a")
	testkit.Eventually(t, func() bool { return asked[0].timesAsked("a") > probes+20 }, patience)
	if n := asked[1].timesAsked("a"); n != 0 {
		t.Errorf("the second asked %d times", n)
	}
	replicas[0].stop()
	testkit.Eventually(t, func() bool { return asked[1].timesAsked("a") > 5 }, patience)
}

func TestWhatAReplicaThatDoesNotLeadRefreshesIsPublishedByAll(t *testing.T) {
	replicas, asked := apart(t, onPostgres(t))
	w := replicas[0].watch(t)
	for _, up := range asked {
		up.offer("a", "y")
	}
	if _, err := replicas[1].RefreshServer(t.Context(), &registryv1.RefreshServerRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	w.until(t, "y", func() bool { return len(w.tools("a")) == 1 && w.tools("a")[0] == "y" })
}

func TestWhatWasAcceptedIsThereAfterACrash(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		up.offer("a", "x")
		first := start(t, quick(open(), up))
		first.register(t, spec("a"))
		if _, err := first.PutView(t.Context(), &registryv1.PutViewRequest{View: &registryv1.View{Name: "v", Servers: []string{"a"}}}); err != nil {
			t.Fatal(err)
		}
		made, err := first.CreateKey(t.Context(), &registryv1.CreateKeyRequest{Principal: "p"})
		if err != nil {
			t.Fatal(err)
		}
		want := final(t, first)
		want.until(t, "the key", func() bool { return len(want.keys) == 1 })
		version := want.version

		// Nothing of the first is closed, flushed or handed over: the second finds what it finds.
		second := start(t, quick(open(), up))
		w := final(t, second)
		if w.version < version || !proto.Equal(w.servers["a"].GetServer(), spec("a")) || len(w.tools("a")) != 1 || w.views["v"] == nil || w.keys[made.Key.Id] == nil {
			t.Errorf("version %d after %d: %v %v %v", w.version, version, w.servers, w.views, w.keys)
		}
	})
}

func TestACallToAFrozenDatabaseEndsInTime(t *testing.T) {
	server, err := testkit.StartPostgres(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s, err := postgres.Open(t.Context(), server.DSN(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	up := newUpstreams()
	up.offer("a", "x")
	r := start(t, quick(s, up))
	r.register(t, spec("a"))
	final(t, r) // it is loaded
	server.Pause()
	defer server.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = r.DeleteServer(ctx, &registryv1.DeleteServerRequest{Name: "a"})
	refused(t, err, codes.DeadlineExceeded)
	if err := r.service.Ready(); err == nil {
		t.Error("ready without a database")
	}
	final(t, r)
	server.Resume()
	testkit.Eventually(t, func() error {
		up.offer("b", "x")
		_, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: spec("b")})
		return err
	}, patience)
}

func TestWatchersAreServedWhileTheDatabaseIsAway(t *testing.T) {
	server, err := testkit.StartPostgres(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s, err := postgres.Open(t.Context(), server.DSN(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	up := newUpstreams()
	up.offer("a", "x")
	c := quick(s, up)
	c.Poll = 200 * time.Millisecond
	r := start(t, c)
	r.register(t, spec("a"))
	held := final(t, r)
	held.until(t, "a", func() bool { return held.servers["a"] != nil })

	server.Kill()
	if w := final(t, r); len(w.tools("a")) != 1 {
		t.Errorf("a new watcher gets %v", w.servers)
	}
	if err := r.service.Ready(); err == nil {
		t.Error("ready without a database")
	}
	if _, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: spec("b")}); err == nil {
		t.Error("a registration was accepted without a database")
	}

	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, r.service.Ready, patience)
	up.offer("b", "x")
	r.register(t, spec("b"))
	held.until(t, "b, on the same stream", func() bool { return held.servers["b"] != nil && held.servers["a"] != nil })
	up.offer("a", "y")
	r.becomes(t, "a", ready)
}
