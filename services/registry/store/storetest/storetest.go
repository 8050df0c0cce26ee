// Package storetest is the suite that every [store.Store] passes. Start at [Run].
package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Open opens one database, the same each time; keep is for how many versions removals are remembered.
type Open func(t testing.TB, keep int) store.Store

// Run tests the stores of the databases that fresh makes, new and empty.
func Run(t *testing.T, fresh func(testing.TB) Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"a new store is empty and of version 1", empty},
		{"a server comes back as it was put", serverRoundTrip},
		{"no offer is not an empty offer", emptyOffer},
		{"what is missing is not found", missing},
		{"lists are in order", listOrder},
		{"a key is added once", keyOnce},
		{"a change that fails leaves nothing", failedChange},
		{"a change that writes nothing keeps the version", idleChange},
		{"a change sees what it wrote itself", ownWrites},
		{"changes are counted one by one, however many write at once", concurrentChanges},
		{"a name belongs to one server", namesCollide},
		{"a name taken leaves the change usable", takenThenUsable},
		{"a server gives up names that it does not claim again", namesGivenUp},
		{"tools and prompts have names apart", nameKinds},
		{"a server may have thousands of names", manyNames},
		{"a note changes the record and not the catalogue", note},
		{"a note on another version does nothing", staleNote},
		{"a delta has what changed and no more", delta},
		{"what was removed and added again is not removed", readded},
		{"everything comes as a snapshot from version 0, or one never reached", snapshots},
		{"deltas read while others write lead to the same catalogue", followConcurrently},
		{"a listener is woken by a change", listen},
		{"a listener ends with its context", listenEnds},
		{"the holder of the lease keeps it", lease},
		{"a store that answers says so, a closed one does not", ping},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)(t, 0)) })
	}
	t.Run("what was committed is there after opening again", func(t *testing.T) { reopened(t, fresh(t)) })
	t.Run("who is too far behind gets a snapshot", func(t *testing.T) { tooFarBehind(t, fresh(t)) })
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123000, time.UTC)

func server(name string, tools ...string) *store.Server {
	s := &store.Server{
		Spec: &registryv1.Server{
			Name:     name,
			Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: "http://" + name + "/mcp", Headers: map[string]string{"A": "b", "C": "d"}}},
		},
		State: registryv1.ServerState_SERVER_STATE_READY, CheckedAt: noon,
		Offer: &registryv1.Offer{Eras: []registryv1.Era{registryv1.Era_ERA_MODERN}, Instructions: "be kind — ✓"},
	}
	for _, tool := range tools {
		s.Offer.Tools = append(s.Offer.Tools, &registryv1.Item{Key: tool, Json: []byte(`{"name":"` + tool + `"}`)})
	}
	return s
}

func view(name string, servers ...string) *registryv1.View {
	return &registryv1.View{Name: name, Servers: servers}
}

func key(id string) *registryv1.KeyRecord {
	return &registryv1.KeyRecord{Key: &registryv1.Key{Id: id, Principal: "p"}, SecretSha256: []byte{1, 2, 3}}
}

func tools(names ...string) []store.Name {
	var all []store.Name
	for _, n := range names {
		all = append(all, store.Name{Kind: store.Tool, Name: n})
	}
	return all
}

// change makes a change that must succeed.
func change(t *testing.T, s store.Store, do func(store.Tx) error) uint64 {
	t.Helper()
	version, err := s.Change(t.Context(), do)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// put adds servers, each with its own names.
func put(t *testing.T, s store.Store, servers ...*store.Server) uint64 {
	t.Helper()
	return change(t, s, func(tx store.Tx) error {
		for _, one := range servers {
			if err := tx.PutServer(t.Context(), one, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func since(t *testing.T, s store.Store, version uint64) *store.Changes {
	t.Helper()
	c, err := s.Since(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform(), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func isErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}
