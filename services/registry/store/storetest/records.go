package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

func empty(t *testing.T, s store.Store) {
	same(t, "changes", since(t, s, 0), &store.Changes{Version: 1, Snapshot: true})
	for _, kind := range []store.Kind{store.KindServer, store.KindView, store.KindKey} {
		if names, err := s.Names(t.Context(), kind); err != nil || len(names) != 0 {
			t.Errorf("records of kind %d: %q, %v", kind, names, err)
		}
	}
}

func serverRoundTrip(t *testing.T, s store.Store) {
	in := server("a", "x", "y")
	in.Declared, in.Message = true, "why — and what to do"
	version := put(t, s, in)
	if in.Version != version || version != 2 {
		t.Errorf("version %d in the record, %d of the catalogue, want 2", in.Version, version)
	}
	out, err := s.Server(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "server", out, in)

	in.Spec.Endpoint = &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: []string{"x"}}}
	in.State, in.CheckedAt, in.Declared = registryv1.ServerState_SERVER_STATE_PENDING, time.Time{}, false
	put(t, s, in)
	if out, err = s.Server(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	same(t, "server put again", out, in)
}

func emptyOffer(t *testing.T, s store.Store) {
	none, bare := server("none"), server("bare")
	none.Offer, bare.Offer = nil, &registryv1.Offer{}
	put(t, s, none, bare)
	all, err := s.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "servers", all, []*store.Server{bare, none})
	if all[0].Offer == nil || all[1].Offer != nil {
		t.Errorf("offers: %v, %v", all[0].Offer, all[1].Offer)
	}
}

func missing(t *testing.T, s store.Store) {
	_, err := s.Server(t.Context(), "a")
	isErr(t, "server", err, store.ErrNotFound)
	_, err = s.View(t.Context(), "a")
	isErr(t, "view", err, store.ErrNotFound)
	for what, do := range map[string]func(store.Tx) error{
		"delete a server": func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "a") },
		"delete a view":   func(tx store.Tx) error { return tx.DeleteView(t.Context(), "a") },
		"delete a key":    func(tx store.Tx) error { return tx.DeleteKey(t.Context(), "a") },
	} {
		_, err := s.Change(t.Context(), do)
		isErr(t, what, err, store.ErrNotFound)
	}
}

func listOrder(t *testing.T, s store.Store) {
	names := []string{"b", "a-b", "a", "b1", "0"}
	for _, n := range names {
		change(t, s, func(tx store.Tx) error {
			return errors.Join(tx.PutServer(t.Context(), server(n), nil), tx.PutView(t.Context(), view("v"+n, n)), tx.AddKey(t.Context(), key(n)))
		})
	}
	servers, err1 := s.Servers(t.Context())
	views, err2 := s.Views(t.Context())
	keys, err3 := s.Keys(t.Context())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	var got [3][]string
	for i := range names {
		got[0] = append(got[0], servers[i].Spec.GetName())
		got[1] = append(got[1], views[i].GetName())
		got[2] = append(got[2], keys[i].GetKey().GetId())
	}
	same(t, "servers by name", got[0], []string{"0", "a", "a-b", "b", "b1"})
	same(t, "views by name", got[1], []string{"v0", "va", "va-b", "vb", "vb1"})
	same(t, "keys, newest first", got[2], []string{"0", "b1", "a", "a-b", "b"})
	for kind, want := range map[store.Kind][]string{store.KindServer: got[0], store.KindView: got[1], store.KindKey: got[0]} {
		names, err := s.Names(t.Context(), kind)
		if err != nil {
			t.Error(err)
		}
		same(t, "names", names, want)
	}
}

func keyOnce(t *testing.T, s store.Store) {
	add := func(tx store.Tx) error { return tx.AddKey(t.Context(), key("k")) }
	change(t, s, add)
	_, err := s.Change(t.Context(), add)
	isErr(t, "the second time", err, store.ErrExists)
	change(t, s, func(tx store.Tx) error { return tx.DeleteKey(t.Context(), "k") })
	change(t, s, add)
}

func note(t *testing.T, s store.Store) {
	in := server("a")
	version := put(t, s, in)
	in.CheckedAt, in.Message = noon.Add(time.Hour), "slow today"
	if err := s.Note(t.Context(), "a", version, in.CheckedAt, in.Message); err != nil {
		t.Fatal(err)
	}
	out, err := s.Server(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "server", out, in)
	same(t, "changes", since(t, s, version), &store.Changes{Version: version})
}

func staleNote(t *testing.T, s store.Store) {
	in := server("a")
	old := put(t, s, in)
	put(t, s, in)
	if err := s.Note(t.Context(), "a", old, noon.Add(time.Hour), "old news"); err != nil {
		t.Fatal(err)
	}
	out, err := s.Server(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "server", out, in)
	if err := s.Note(t.Context(), "nobody", 1, noon, ""); err != nil {
		t.Error(err)
	}
}

func lease(t *testing.T, s store.Store) {
	for range 2 {
		if held, err := s.HoldLease(t.Context(), "one", time.Minute); err != nil || !held {
			t.Fatalf("held %v, %v", held, err)
		}
	}
	if err := s.DropLease(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if held, err := s.HoldLease(t.Context(), "two", time.Minute); err != nil || !held {
		t.Errorf("after it was dropped: held %v, %v", held, err)
	}
}

func ping(t *testing.T, s store.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ping(ended); err == nil {
		t.Error("a ping whose context is over answers")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
}

func reopened(t *testing.T, open Open) {
	first := open(t, 0)
	in := server("a", "x")
	change(t, first, func(tx store.Tx) error {
		return errors.Join(tx.PutServer(t.Context(), in, tools("a_x")), tx.PutView(t.Context(), view("v", "a")), tx.AddKey(t.Context(), key("k")))
	})
	before := since(t, first, 0)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, 0)
	same(t, "changes", since(t, second, 0), before)
	_, err := second.Change(t.Context(), func(tx store.Tx) error { return tx.PutServer(t.Context(), server("b", "x"), tools("a_x")) })
	if err == nil || !strings.Contains(err.Error(), "a_x") {
		t.Errorf("a name that was claimed before is free: %v", err)
	}
	if version := put(t, second, server("c")); version != 3 {
		t.Errorf("the next version is %d", version)
	}
}
