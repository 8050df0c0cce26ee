package watch

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// state is a version of the catalogue that knows in which version each part of it came.
type state struct {
	version uint64
	servers map[string]stamped[*store.Server]
	views   map[string]stamped[*registryv1.View]
	keys    map[string]stamped[*registryv1.KeyRecord]
	// removed in the order of versions; those up to floor are forgotten.
	removed []removal
	floor   uint64
}

type stamped[T any] struct {
	record  T
	version uint64
}

type removal struct {
	kind    store.Kind
	name    string
	version uint64
}

// maxRemoved is how many removals are remembered.
const maxRemoved = 10_000

func newState() state {
	return state{
		servers: map[string]stamped[*store.Server]{},
		views:   map[string]stamped[*registryv1.View]{},
		keys:    map[string]stamped[*registryv1.KeyRecord]{},
	}
}

// apply brings the state to the version that changes lead to.
func (s *state) apply(c *store.Changes) {
	if c.Snapshot {
		*s = newState()
		s.floor = c.Version
	}
	s.version = c.Version
	for _, one := range c.Servers {
		s.servers[one.Spec.GetName()] = stamped[*store.Server]{one, c.Version}
	}
	for _, one := range c.Views {
		s.views[one.GetName()] = stamped[*registryv1.View]{one, c.Version}
	}
	for _, one := range c.Keys {
		s.keys[one.GetKey().GetId()] = stamped[*registryv1.KeyRecord]{one, c.Version}
	}
	drop(s, s.servers, store.KindServer, c.RemovedServers)
	drop(s, s.views, store.KindView, c.RemovedViews)
	drop(s, s.keys, store.KindKey, c.RemovedKeys)
	if over := len(s.removed) - maxRemoved; over > 0 {
		s.floor = s.removed[over-1].version
		s.removed = slices.DeleteFunc(s.removed, func(r removal) bool { return r.version <= s.floor })
	}
}

func drop[T any](s *state, from map[string]T, kind store.Kind, names []string) {
	for _, name := range names {
		delete(from, name)
		s.removed = append(s.removed, removal{kind, name, s.version})
	}
}

// since returns one message with what came after a version, or with everything.
func (s *state) since(version uint64, everything bool) *registryv1.WatchCatalogResponse {
	m := &registryv1.WatchCatalogResponse{Version: s.version}
	if everything || version < s.floor || version > s.version {
		m.Snapshot, version = true, 0
	}
	for _, one := range newer(s.servers, version, m.Snapshot) {
		m.Servers = append(m.Servers, &registryv1.CatalogServer{Server: one.Spec, Offer: one.Offer, State: one.State})
	}
	m.Views = newer(s.views, version, m.Snapshot)
	m.Keys = newer(s.keys, version, m.Snapshot)
	if m.Snapshot {
		return m
	}
	for _, r := range s.removed {
		if r.version <= version {
			continue
		}
		switch r.kind {
		case store.KindServer:
			addGone(&m.RemovedServers, s.servers, r.name)
		case store.KindView:
			addGone(&m.RemovedViews, s.views, r.name)
		case store.KindKey:
			addGone(&m.RemovedKeys, s.keys, r.name)
		}
	}
	for _, gone := range []*[]string{&m.RemovedServers, &m.RemovedViews, &m.RemovedKeys} {
		slices.Sort(*gone) // a name may have gone several times
		*gone = slices.Compact(*gone)
	}
	return m
}

// newer returns what came after a version, or all, by name.
func newer[T any](records map[string]stamped[T], version uint64, all bool) []T {
	var found []T
	for _, name := range slices.Sorted(maps.Keys(records)) {
		if one := records[name]; all || one.version > version {
			found = append(found, one.record)
		}
	}
	return found
}

// addGone notes a removal, unless the name is back.
func addGone[T any](gone *[]string, present map[string]T, name string) {
	if _, back := present[name]; !back {
		*gone = append(*gone, name)
	}
}

// split spreads a message's servers over several where it is larger than size.
func split(m *registryv1.WatchCatalogResponse, size int) []*registryv1.WatchCatalogResponse {
	servers := m.Servers
	m.Servers = nil
	used := proto.Size(m)
	all := []*registryv1.WatchCatalogResponse{m}
	for _, s := range servers {
		n := proto.Size(s)
		if used+n > size && len(m.Servers) > 0 {
			m = &registryv1.WatchCatalogResponse{Version: m.Version}
			all = append(all, m)
			used = 0
		}
		m.Servers = append(m.Servers, s)
		used += n
	}
	return all
}
