package registry_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/testkit"
)

// final is the catalogue that a new watcher gets.
func final(t *testing.T, r *replica) *watcher {
	t.Helper()
	w := r.watch(t)
	w.until(t, "a snapshot", func() bool { return true })
	return w
}

// sameCatalogue waits until a watcher has the version of another, and compares them.
func sameCatalogue(t *testing.T, w, want *watcher) {
	t.Helper()
	want.mu.Lock()
	version := want.version
	want.mu.Unlock()
	w.until(t, fmt.Sprintf("version %d", version), func() bool { return w.version == version })
	w.mu.Lock()
	defer w.mu.Unlock()
	want.mu.Lock()
	defer want.mu.Unlock()
	for _, d := range []string{
		cmp.Diff(want.servers, w.servers, protocmp.Transform()),
		cmp.Diff(want.views, w.views, protocmp.Transform()),
		cmp.Diff(want.keys, w.keys, protocmp.Transform()),
	} {
		if d != "" {
			t.Error(d)
		}
	}
}

// write makes changes of all kinds, of which some are refused.
func write(t *testing.T, r *replica, up *upstreams, writer, times int) {
	ctx := t.Context()
	for i := range times {
		name := fmt.Sprintf("s%d", (writer+i)%5)
		var err error
		switch i % 6 {
		case 0, 1:
			up.offer(name, fmt.Sprintf("x%d-%d", writer, i))
			_, err = r.RegisterServer(ctx, &registryv1.RegisterServerRequest{Server: spec(name)})
		case 2:
			_, err = r.DeleteServer(ctx, &registryv1.DeleteServerRequest{Name: name})
		case 3:
			_, err = r.CreateKey(ctx, &registryv1.CreateKeyRequest{Principal: name})
		case 4:
			up.offer(name, fmt.Sprintf("y%d-%d", writer, i))
			_, err = r.RefreshServer(ctx, &registryv1.RefreshServerRequest{Name: name})
		case 5:
			_, err = r.PutView(ctx, &registryv1.PutViewRequest{View: &registryv1.View{Name: "v" + name, Servers: []string{name}}})
		}
		switch status.Code(err) {
		case codes.OK, codes.AlreadyExists, codes.NotFound, codes.InvalidArgument, codes.Aborted:
		default:
			t.Error(err)
		}
	}
}

func TestWatchersOfConcurrentWritersEndWithTheSameCatalogue(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		watchers := []*watcher{r.watch(t), r.watch(t)}
		var wg sync.WaitGroup
		for writer := range 4 {
			wg.Go(func() { write(t, r, up, writer, 30) })
		}
		wg.Wait()
		r.register(t, spec("last"))
		watchers[0].until(t, "the last change", func() bool { return watchers[0].servers["last"] != nil })
		// Discovery may still be busy with what was refreshed; so the versions are compared when both have one.
		testkit.Eventually(t, func() bool {
			a, b := final(t, r), watchers[1]
			b.mu.Lock()
			defer b.mu.Unlock()
			return a.version == b.version
		}, patience)
		want := final(t, r)
		for _, w := range watchers {
			sameCatalogue(t, w, want)
		}
	})
}

func TestALargeCatalogueComesInSeveralMessages(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		c := quick(open(), up)
		c.MessageSize = 4000
		r := start(t, c)
		for i := range 10 {
			name := fmt.Sprintf("s%d", i)
			up.set(name, &registryv1.Offer{Instructions: strings.Repeat("x", 1000)})
			r.register(t, spec(name))
		}
		all := &watcher{parts: true}
		r.follow(t, all)
		all.until(t, "all servers", func() bool { return len(all.servers) == 10 })
		stream, err := r.WatchCatalog(t.Context(), &registryv1.WatchCatalogRequest{})
		if err != nil {
			t.Fatal(err)
		}
		servers, messages := 0, 0
		for servers < 10 {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.Snapshot != (messages == 0) || m.Version != 11 {
				t.Errorf("message %d: snapshot %v, version %d", messages, m.Snapshot, m.Version)
			}
			messages++
			servers += len(m.Servers)
		}
		if messages != 4 {
			t.Errorf("%d messages", messages)
		}
	})
}

func TestWatchersAreSentAwayWhenTheServiceStops(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		r := start(t, quick(open(), newUpstreams()))
		w := final(t, r)
		r.stop()
		testkit.Eventually(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.err != nil
		}, patience)
	})
}

func TestTheServiceIsReadyOnceTheCatalogueIsLoadedAndWhileTheStoreAnswers(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		s := open()
		r := start(t, quick(s, newUpstreams()))
		testkit.Eventually(t, r.service.Ready, patience)
		final(t, r)
		r.stop() // closes the store
		if err := r.service.Ready(); err == nil {
			t.Error("ready without a store")
		}
	})
}
