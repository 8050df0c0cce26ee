package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// applied is what a watcher holds.
type applied struct {
	version              uint64
	servers, views, keys map[string]string
}

func (a *applied) apply(t rapid.TB, m *registryv1.WatchCatalogResponse) {
	if m.Version < a.version || !m.Snapshot && a.servers == nil {
		t.Fatalf("message %v at version %d", m, a.version)
	}
	if m.Snapshot {
		a.servers, a.views, a.keys = map[string]string{}, map[string]string{}, map[string]string{}
	}
	a.version = m.Version
	for _, s := range m.Servers {
		a.servers[s.Server.Name] = s.Offer.GetInstructions()
	}
	for _, v := range m.Views {
		a.views[v.Name] = v.Description
	}
	for _, k := range m.Keys {
		a.keys[k.Key.Id] = k.Key.Description
	}
	for _, n := range m.RemovedServers {
		delete(a.servers, n)
	}
	for _, n := range m.RemovedViews {
		delete(a.views, n)
	}
	for _, n := range m.RemovedKeys {
		delete(a.keys, n)
	}
}

func TestWhateverAWatcherMissedItEndsWithTheSameCatalogue(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		s.apply(&store.Changes{Snapshot: true})
		watchers := make([]applied, 3)
		look := func(w *applied) {
			for _, m := range split(s.since(w.version, w.servers == nil), rapid.IntRange(1, 200).Draw(t, "size")) {
				w.apply(t, m)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			c := &store.Changes{Version: s.version + uint64(rapid.IntRange(1, 3).Draw(t, "step"))}
			c.Snapshot = rapid.IntRange(0, 9).Draw(t, "snapshot") == 0
			for _, n := range names {
				text := fmt.Sprint(c.Version)
				switch rapid.IntRange(0, 7).Draw(t, "what") {
				case 0:
					c.Servers = append(c.Servers, &store.Server{Spec: &registryv1.Server{Name: n}, Offer: &registryv1.Offer{Instructions: text}})
				case 1:
					c.RemovedServers = append(c.RemovedServers, n)
				case 2:
					c.Views = append(c.Views, &registryv1.View{Name: n, Description: text})
				case 3:
					c.RemovedViews = append(c.RemovedViews, n)
				case 4:
					c.Keys = append(c.Keys, &registryv1.KeyRecord{Key: &registryv1.Key{Id: n, Description: text}})
				case 5:
					c.RemovedKeys = append(c.RemovedKeys, n)
				}
			}
			s.apply(c)
			for i := range watchers {
				if rapid.Bool().Draw(t, "looks") {
					look(&watchers[i])
				}
			}
		}
		var fresh applied
		look(&fresh)
		for i := range watchers {
			look(&watchers[i])
			if d := cmp.Diff(fresh, watchers[i], cmp.AllowUnexported(applied{})); d != "" {
				t.Fatalf("watcher %d (-fresh +it):\n%s", i, d)
			}
		}
	})
}

func TestRemovalsAreRememberedWithinABound(t *testing.T) {
	s := newState()
	s.apply(&store.Changes{Snapshot: true, Version: 1})
	for i := range maxRemoved + 100 {
		s.apply(&store.Changes{Version: uint64(i + 2), RemovedServers: []string{fmt.Sprint(i)}})
	}
	if len(s.removed) > maxRemoved {
		t.Errorf("%d removals", len(s.removed))
	}
	if !s.since(50, false).Snapshot || s.since(200, false).Snapshot {
		t.Error("the wrong ones get a snapshot")
	}
}

func TestALargeMessageIsSplit(t *testing.T) {
	m := &registryv1.WatchCatalogResponse{Version: 7, Snapshot: true, Views: []*registryv1.View{{Name: "v"}}, RemovedKeys: []string{"k"}}
	for i := range 10 {
		m.Servers = append(m.Servers, &registryv1.CatalogServer{
			Server: &registryv1.Server{Name: fmt.Sprint(i)}, Offer: &registryv1.Offer{Instructions: strings.Repeat("x", 100+900*(i/9))},
		})
	}
	whole := proto.Clone(m)
	parts := split(m, 300)
	joined := proto.Clone(parts[0]).(*registryv1.WatchCatalogResponse)
	for _, p := range parts[1:] {
		if p.Snapshot || p.Version != 7 || p.Views != nil {
			t.Errorf("a later part: %v", p)
		}
		joined.Servers = append(joined.Servers, p.Servers...)
	}
	if d := cmp.Diff(whole, joined, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	if big := slices.MaxFunc(parts[:len(parts)-1], func(a, b *registryv1.WatchCatalogResponse) int { return proto.Size(a) - proto.Size(b) }); len(parts) != 6 || proto.Size(big) > 320 {
		t.Errorf("%d parts, the largest but the last of %d bytes", len(parts), proto.Size(big))
	}
}
