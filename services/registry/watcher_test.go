package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/testkit"
)

// watcher holds the catalogue as it was published to it.
type watcher struct {
	mu       sync.Mutex
	version  uint64
	messages []*registryv1.WatchCatalogResponse
	servers  map[string]*registryv1.CatalogServer
	views    map[string]*registryv1.View
	keys     map[string]*registryv1.KeyRecord
	err      error // how the stream ended
	parts    bool  // several messages may have one version
}

// watch follows a replica until the test ends.
func (r *replica) watch(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{}
	r.follow(t, w)
	return w
}

func (r *replica) follow(t *testing.T, w *watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := r.WatchCatalog(ctx, &registryv1.WatchCatalogRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.receive(t, stream) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (w *watcher) receive(t *testing.T, stream grpc.ServerStreamingClient[registryv1.WatchCatalogResponse]) {
	for {
		m, err := stream.Recv()
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.mu.Unlock()
			return
		}
		w.apply(t, m)
		w.mu.Unlock()
	}
}

func (w *watcher) apply(t *testing.T, m *registryv1.WatchCatalogResponse) {
	if m.Snapshot != (w.servers == nil) || !m.Snapshot && m.Version <= w.version && !w.parts {
		t.Errorf("after version %d came %v", w.version, m)
	}
	if m.Snapshot {
		w.servers, w.views, w.keys = map[string]*registryv1.CatalogServer{}, map[string]*registryv1.View{}, map[string]*registryv1.KeyRecord{}
	}
	w.version = m.Version
	w.messages = append(w.messages, m)
	for _, s := range m.Servers {
		w.servers[s.Server.Name] = s
	}
	for _, v := range m.Views {
		w.views[v.Name] = v
	}
	for _, k := range m.Keys {
		w.keys[k.Key.Id] = k
	}
	for _, n := range m.RemovedServers {
		delete(w.servers, n)
	}
	for _, n := range m.RemovedViews {
		delete(w.views, n)
	}
	for _, n := range m.RemovedKeys {
		delete(w.keys, n)
	}
}

// until waits until the catalogue is as it should be.
func (w *watcher) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	testkit.Eventually(t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.servers == nil || !is() {
			return fmt.Errorf("%s: not at version %d: %v", what, w.version, w.servers)
		}
		return nil
	}, patience)
}

// tools are the names of a server's tools in the catalogue.
func (w *watcher) tools(name string) (tools []string) {
	for _, item := range w.servers[name].GetOffer().GetTools() {
		tools = append(tools, item.GetKey())
	}
	return tools
}
