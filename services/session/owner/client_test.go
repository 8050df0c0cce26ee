package owner_test

import (
	"context"
	"errors"
	"testing"

	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	"erlmcp.dev/shared/catalog"
)

type emptyCatalog struct{}

func (emptyCatalog) Current() *catalog.Catalog { return catalog.New() }

// start runs an owner; stop hands its sessions over.
func start(t *testing.T, name string, held store.Store) (o *owner.Owner, stop func()) {
	t.Helper()
	o = owner.New(owner.Config{Node: store.Node{Name: name, Address: name}, Store: held, Catalog: emptyCatalog{}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return o, stop
}

// What initialize tells of a session that was opened before it reaches an owner that adopts the session.
func TestInitializeIsRememberedAndComesOnce(t *testing.T) {
	held := memory.New(store.Limits{})
	first, stop := start(t, "first", held)
	opened, err := first.Open(t.Context(), store.Record{Principal: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	id := opened.Record.ID
	told := owner.Client{Version: "2025-11-25", Capabilities: []byte(`{"roots":{}}`), Info: []byte(`{"name":"me"}`)}
	facts, err := first.Initialize(t.Context(), id, told)
	if err != nil || facts.Record.Version != told.Version {
		t.Fatalf("got revision %q, %v", facts.Record.Version, err)
	}
	if _, err := first.Initialize(t.Context(), id, told); !errors.Is(err, owner.ErrInitialized) {
		t.Errorf("a second initialize gave %v", err)
	}
	stop()

	second, stop := start(t, "second", held)
	defer stop()
	facts, err = second.Locate(t.Context(), id, "")
	if err != nil || facts.Record.Version != told.Version || string(facts.Record.Capabilities) != string(told.Capabilities) {
		t.Errorf("the next owner knows %+v, %v", facts.Record, err)
	}
	if _, err := second.Initialize(t.Context(), id, told); !errors.Is(err, owner.ErrInitialized) {
		t.Errorf("an initialize at the next owner gave %v", err)
	}
}

func TestAPostedMessageComesOnTheStandingStream(t *testing.T) {
	o, stop := start(t, "one", memory.New(store.Limits{}))
	defer stop()
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone", Version: "2024-11-05"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Post(t.Context(), opened.Record.ID, []byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	errEnough := errors.New("enough")
	var got []string
	err = o.Listen(t.Context(), opened.Record.ID, owner.Listening{Unnamed: true}, func(e owner.Event) error {
		got = append(got, string(e.Message))
		if len(got) == 2 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || got[0] != "" || got[1] != `{"a":1}` {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheNewestReaderDisplacesTheOneBefore(t *testing.T) {
	o, stop := start(t, "one", memory.New(store.Limits{}))
	defer stop()
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone", Version: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	attached, displaced := make(chan struct{}), make(chan error, 1)
	go func() {
		displaced <- o.Listen(t.Context(), opened.Record.ID, owner.Listening{Unnamed: true}, func(owner.Event) error { close(attached); return nil })
	}()
	<-attached
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	second := make(chan error, 1)
	go func() {
		second <- o.Listen(ctx, opened.Record.ID, owner.Listening{}, func(owner.Event) error { return nil })
	}()
	if err := <-displaced; !errors.Is(err, owner.ErrDisplaced) {
		t.Errorf("the first reader got %v", err)
	}
	cancel()
	if err := <-second; err != nil {
		t.Errorf("the second reader got %v", err)
	}
}
