package registry_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/testkit"
)

// versionOf is the version of a store's catalogue. It closes the store.
func versionOf(t *testing.T, s store.Store) uint64 {
	t.Helper()
	defer s.Close()
	c, err := s.Since(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return c.Version
}

func TestDeclaredServersFollowTheFile(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		for _, name := range []string{"kept", "gone", "changed", "called", "new"} {
			up.offer(name, "x")
		}
		begin := func(specs ...*registryv1.Server) *replica {
			c := quick(open(), up)
			c.Declared = specs
			return start(t, c)
		}
		r := begin(spec("kept"), spec("gone"), spec("changed"))
		r.register(t, spec("called"))
		for _, name := range []string{"kept", "gone", "changed"} {
			if st := r.becomes(t, name, ready); !st.Declared {
				t.Errorf("status %v", st)
			}
		}
		_, err := r.PutView(t.Context(), &registryv1.PutViewRequest{View: &registryv1.View{Name: "v", Servers: []string{"gone", "kept"}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: spec("kept")})
		refused(t, err, codes.FailedPrecondition)
		_, err = r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: "kept"})
		refused(t, err, codes.FailedPrecondition)
		if _, err := r.RefreshServer(t.Context(), &registryv1.RefreshServerRequest{Name: "kept"}); err != nil {
			t.Error(err)
		}
		r.stop()

		// The same file again is no change.
		version := versionOf(t, open())
		asked := up.timesAsked("kept")
		r = begin(spec("kept"), spec("gone"), spec("changed"))
		testkit.Eventually(t, func() bool { return up.timesAsked("kept") > asked }, patience)
		r.stop()
		if now := versionOf(t, open()); now != version {
			t.Errorf("version %d became %d though the file did not change", version, now)
		}

		changed := spec("changed")
		changed.Prefix = proto.String("other_")
		r = begin(spec("kept"), changed, spec("new"), spec("called"))
		w := r.watch(t)
		w.until(t, "the new file", func() bool {
			return w.servers["gone"] == nil && w.servers["new"].GetState() == ready && w.servers["changed"].GetServer().GetPrefix() == "other_" &&
				slices.Equal(w.views["v"].GetServers(), []string{"kept"})
		})
		for _, name := range []string{"kept", "changed", "new", "called"} {
			if st := r.becomes(t, name, ready); !st.Declared {
				t.Errorf("status %v", st)
			}
		}
		r.stop()

		r = begin()
		list, err := r.ListServers(t.Context(), &registryv1.ListServersRequest{})
		if err != nil || len(list.Servers) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

func TestADeclaredServerThatCollidesIsInConflict(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		up.offer("first", "x")
		up.offer("second", "x")
		first, second := spec("first"), spec("second")
		first.Prefix, second.Prefix = proto.String("p_"), proto.String("p_")
		c := quick(open(), up)
		c.Declared = []*registryv1.Server{first}
		r := start(t, c)
		r.becomes(t, "first", ready)
		r.stop()
		c = quick(open(), up)
		c.Declared = []*registryv1.Server{second, first}
		r = start(t, c)
		r.becomes(t, "second", conflict)
		if st := r.get(t, "first"); st.State != ready {
			t.Errorf("status %v", st)
		}
	})
}

func TestADeclarationThatCannotBeStopsTheStart(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		s := open()
		defer s.Close()
		bad := spec("bad")
		bad.GetHttp().Url = "http://u:p@host/"
		for _, declared := range [][]*registryv1.Server{{bad}, {spec("a"), spec("a")}} {
			if _, err := registry.New(t.Context(), registry.Config{Store: s, Discoverer: newUpstreams(), Declared: declared}); err == nil {
				t.Errorf("%v is accepted", declared)
			}
		}
		if names, err := s.Names(t.Context(), store.KindServer); err != nil || len(names) != 0 {
			t.Errorf("%v, %v", names, err)
		}
	})
}
