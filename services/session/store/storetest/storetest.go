// Package storetest is the suite that every [store.Store] passes. Start at [Run].
package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
)

// Opened is a store to test, empty at first.
type Opened struct {
	store.Store
	// Left counts whatever the store keeps: keys, entries of maps.
	Left func() int
}

// Open makes a store for one test.
type Open func(t testing.TB, limits store.Limits) Opened

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Run("leases", func(t *testing.T) { testLeases(t, open) })
	t.Run("sessions", func(t *testing.T) { testSessions(t, open) })
	t.Run("ownership", func(t *testing.T) { testOwnership(t, open) })
	t.Run("idleness", func(t *testing.T) { testIdleness(t, open) })
	t.Run("list", func(t *testing.T) { testList(t, open) })
	t.Run("events", func(t *testing.T) { testEvents(t, open) })
	t.Run("results", func(t *testing.T) { testResults(t, open) })
	t.Run("tasks", func(t *testing.T) { testTasks(t, open) })
	t.Run("properties", func(t *testing.T) { testProperties(t, open) })
}

// each runs every test of a table over a store of its own, with default limits.
func each(t *testing.T, open Open, tests map[string]func(*testing.T, Opened)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t, store.Limits{})) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

// record is a small one with an id of its own.
func record() store.Record {
	return store.Record{ID: uuid.NewString(), Principal: "alice", Version: "2025-11-25"}
}

// create makes a session of node at epoch 1.
func create(t testing.TB, s store.Store, node string) (id string) {
	t.Helper()
	made := record()
	must(t, s.Create(t.Context(), node, made))
	return made.ID
}

// join lets a node live as long as a test may take.
func join(t testing.TB, s store.Store, node string) store.Lease {
	t.Helper()
	lease, err := s.Join(t.Context(), store.Node{Name: node, Address: node + ".test:9102"}, time.Hour)
	must(t, err)
	return lease
}

func get(t testing.TB, s store.Store, id string) store.Session {
	t.Helper()
	found, err := s.Get(t.Context(), id)
	must(t, err)
	return found
}
