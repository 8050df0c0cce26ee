package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"erlmcp.dev/services/registry/store"
)

// claim puts a server with names and returns what PutServer said.
func claim(ctx context.Context, s store.Store, name string, names ...store.Name) error {
	_, err := s.Change(ctx, func(tx store.Tx) error { return tx.PutServer(ctx, server(name), names) })
	return err
}

// claims is claim where it must succeed.
func claims(t *testing.T, s store.Store, name string, names ...store.Name) {
	t.Helper()
	if err := claim(t.Context(), s, name, names...); err != nil {
		t.Fatal(err)
	}
}

// refused is claim where another holds a name.
func refused(t *testing.T, s store.Store, name string, want store.NameTaken, names ...store.Name) {
	t.Helper()
	err := claim(t.Context(), s, name, names...)
	taken, ok := errors.AsType[*store.NameTaken](err)
	if !ok || *taken != want {
		t.Errorf("claim for %s: %v, want %v", name, err, &want)
	}
}

func namesCollide(t *testing.T, s store.Store) {
	claims(t, s, "a", tools("x", "y")...)
	claims(t, s, "b", tools("z")...)
	before := since(t, s, 0)
	refused(t, s, "c", store.NameTaken{Name: tools("x")[0], Holder: "a"}, tools("q", "z", "x")...)
	refused(t, s, "b", store.NameTaken{Name: tools("y")[0], Holder: "a"}, tools("z", "y")...)
	same(t, "changes", since(t, s, 0), before)
	claims(t, s, "a", tools("x", "y")...) // its own are no obstacle
	claims(t, s, "c", tools("X", "x ", "q")...)
}

func takenThenUsable(t *testing.T, s store.Store) {
	claims(t, s, "a", tools("x")...)
	change(t, s, func(tx store.Tx) error {
		if err := tx.PutServer(t.Context(), server("b"), tools("x", "y")); err == nil {
			t.Error("x was given twice")
		}
		return tx.PutServer(t.Context(), server("b"), tools("y"))
	})
	refused(t, s, "c", store.NameTaken{Name: tools("y")[0], Holder: "b"}, tools("y")...)
}

func namesGivenUp(t *testing.T, s store.Store) {
	claims(t, s, "a", tools("x", "y")...)
	claims(t, s, "a", tools("y", "z")...)
	claims(t, s, "b", tools("x")...)
	refused(t, s, "b", store.NameTaken{Name: tools("y")[0], Holder: "a"}, tools("x", "y")...)
	change(t, s, func(tx store.Tx) error { return tx.DeleteServer(t.Context(), "a") })
	claims(t, s, "b", tools("x", "y", "z")...)
	claims(t, s, "b")
	claims(t, s, "c", tools("x", "y", "z")...)
}

func nameKinds(t *testing.T, s store.Store) {
	claims(t, s, "a", tools("x")...)
	prompt := store.Name{Kind: store.Prompt, Name: "x"}
	claims(t, s, "b", prompt)
	refused(t, s, "c", store.NameTaken{Name: prompt, Holder: "b"}, prompt)
}

func manyNames(t *testing.T, s store.Store) {
	var names []store.Name
	for i := range 5000 {
		names = append(names, store.Name{Kind: store.Tool, Name: fmt.Sprintf("t%d-\"\\'—%%_", i)})
	}
	names = append(names, store.Name{Kind: store.Tool, Name: strings.Repeat("é", store.MaxName/2)})
	claims(t, s, "a", names...)
	for _, n := range []store.Name{names[0], names[4999], names[5000]} {
		refused(t, s, "b", store.NameTaken{Name: n, Holder: "a"}, n)
	}
}
