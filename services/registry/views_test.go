package registry_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

func TestViewsArePutAndPublishedAndFollowTheirServers(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		for _, name := range []string{"a", "b"} {
			up.offer(name)
			r.register(t, spec(name))
		}
		put := func(v *registryv1.View) error {
			_, err := r.PutView(t.Context(), &registryv1.PutViewRequest{View: v})
			return err
		}
		v := &registryv1.View{Name: "v", Description: "d", Servers: []string{"a", "b"}, Tools: []string{"not_yet"}}
		if err := put(v); err != nil {
			t.Fatal(err)
		}
		w.until(t, "the view", func() bool { return proto.Equal(w.views["v"], v) })
		refused(t, put(&registryv1.View{Name: "a", Servers: []string{"b"}}), codes.AlreadyExists)
		refused(t, put(&registryv1.View{Name: "w", Servers: []string{"a", "nobody"}}), codes.InvalidArgument)
		refused(t, put(&registryv1.View{Name: "w"}), codes.InvalidArgument)

		// Without its servers it goes on, even without any. Both are one change.
		for _, name := range []string{"a", "b"} {
			if _, err := r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		w.until(t, "the view lost its servers", func() bool { return len(w.servers) == 0 && len(w.views["v"].GetServers()) == 0 })
		w.mu.Lock()
		for _, m := range w.messages {
			for _, gone := range m.RemovedServers {
				for _, v := range m.Views {
					if slices.Contains(v.Servers, gone) {
						t.Errorf("in one message %s is gone and in a view: %v", gone, m)
					}
				}
			}
		}
		w.mu.Unlock()
		list, err := r.ListViews(t.Context(), &registryv1.ListViewsRequest{})
		if err != nil || len(list.Views) != 1 || list.Views[0].Name != "v" || len(list.Views[0].Servers) != 0 {
			t.Errorf("%v, %v", list, err)
		}

		if _, err := r.DeleteView(t.Context(), &registryv1.DeleteViewRequest{Name: "v"}); err != nil {
			t.Fatal(err)
		}
		w.until(t, "the view is gone", func() bool { return len(w.views) == 0 })
		_, err = r.DeleteView(t.Context(), &registryv1.DeleteViewRequest{Name: "v"})
		refused(t, err, codes.NotFound)
	})
}

func TestAViewPutAgainUnchangedPublishesNothing(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		up.offer("a")
		r.register(t, spec("a"))
		for range 3 {
			_, err := r.PutView(t.Context(), &registryv1.PutViewRequest{View: &registryv1.View{Name: "v", Servers: []string{"a"}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		w := r.watch(t)
		w.until(t, "both", func() bool { return len(w.views) == 1 })
		if w.version != 3 {
			t.Errorf("version %d", w.version)
		}
	})
}
