package catalog

import (
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Catalog is one version of the catalogue. It is immutable and safe for concurrent use.
type Catalog struct {
	version uint64
	servers map[string]*registryv1.CatalogServer
	defined map[string]*registryv1.View

	mu    sync.Mutex
	views map[string]*View // built when first asked for
}

// New returns the empty catalogue of version 0.
func New() *Catalog {
	return &Catalog{servers: map[string]*registryv1.CatalogServer{}, defined: map[string]*registryv1.View{}}
}

// Apply returns the catalogue that a published change leads to.
func (c *Catalog) Apply(change *registryv1.WatchCatalogResponse) *Catalog {
	next := New()
	next.version = change.GetVersion()
	if !change.GetSnapshot() {
		maps.Copy(next.servers, c.servers)
		maps.Copy(next.defined, c.defined)
	}
	for _, s := range change.GetServers() {
		next.servers[s.GetServer().GetName()] = s
	}
	for _, name := range change.GetRemovedServers() {
		delete(next.servers, name)
	}
	for _, v := range change.GetViews() {
		next.defined[v.GetName()] = v
	}
	for _, name := range change.GetRemovedViews() {
		delete(next.defined, name)
	}
	return next
}

// Bytes is about how much memory the catalogue takes: what servers offer, and the pages made of it.
func (c *Catalog) Bytes() (n int) {
	for _, s := range c.servers {
		n += proto.Size(s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.views {
		for k := range v.lists {
			n += len(v.lists[k].first)
			for _, e := range v.lists[k].entries {
				n += len(e.JSON)
			}
		}
	}
	return n
}

// Version is the catalogue's version; 0 before anything was published.
func (c *Catalog) Version() uint64 { return c.version }

// Server returns a server by name, or nil.
func (c *Catalog) Server(name string) *registryv1.CatalogServer { return c.servers[name] }

// Servers returns the names of all servers, sorted.
func (c *Catalog) Servers() []string { return slices.Sorted(maps.Keys(c.servers)) }

// View returns what clients of /mcp/{name} see, and false where there is neither a view nor a server of that
// name. The empty name is the view of everything.
func (c *Catalog) View(name string) (*View, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.views[name]; ok {
		return v, true
	}
	v := c.build(name)
	if v == nil {
		return nil, false
	}
	if c.views == nil {
		c.views = map[string]*View{}
	}
	c.views[name] = v
	return v, true
}

func (c *Catalog) build(name string) *View {
	if name == "" {
		return newView(name, c.pick(c.Servers()), PublicName, nil)
	}
	if s := c.servers[name]; s != nil {
		own := func(_ *registryv1.Server, name string) string { return name }
		return newView(name, []*registryv1.CatalogServer{s}, own, nil)
	}
	if d := c.defined[name]; d != nil {
		names := slices.Sorted(slices.Values(d.GetServers()))
		return newView(name, c.pick(names), PublicName, d.GetTools())
	}
	return nil
}

// pick returns the named servers that exist.
func (c *Catalog) pick(names []string) []*registryv1.CatalogServer {
	var picked []*registryv1.CatalogServer
	for _, n := range names {
		if s := c.servers[n]; s != nil {
			picked = append(picked, s)
		}
	}
	return picked
}
