package owner_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
)

// slow is a store whose claims wait for their turn.
type slow struct {
	store.Store
	turn chan struct{}
}

func (s slow) Claim(ctx context.Context, id, node string, epoch uint64) (uint64, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return s.Store.Claim(ctx, id, node, epoch)
}

// orphan is a session in a store, whose owner is gone.
func orphan(t *testing.T) (store.Store, owner.Facts) {
	t.Helper()
	held := memory.New(store.Limits{})
	gone := owner.New(owner.Config{Node: store.Node{Name: "gone", Address: "gone"}, Store: held, Catalog: emptyCatalog{}})
	opened, err := gone.Open(t.Context(), store.Record{Principal: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	return held, opened
}

// Of an owner of many sessions that died, each waits for its turn to be adopted, longer than who asks for it: it is
// adopted all the same.
func TestAnAdoptionOutlivesWhoAskedForIt(t *testing.T) {
	held, opened := orphan(t)
	turn := make(chan struct{})
	next, stop := start(t, "next", slow{held, turn})
	defer stop()
	for range 3 {
		impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := next.Locate(impatient, opened.Record.ID, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("located with %v", err)
		}
		cancel()
	}
	turn <- struct{}{} // the one turn that there is
	facts, err := next.Locate(t.Context(), opened.Record.ID, "")
	if err != nil || facts.Owner.Name != "next" || facts.Epoch != opened.Epoch+1 {
		t.Errorf("it is %+v, with %v", facts, err)
	}
}

// An owner that stops gives up what it is adopting.
func TestAnOwnerThatStopsAdoptsNoMore(t *testing.T) {
	held, opened := orphan(t)
	next, stop := start(t, "next", slow{held, nil})
	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := next.Locate(impatient, opened.Record.ID, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("located with %v", err)
	}
	stop()
	if _, err := next.Locate(t.Context(), opened.Record.ID, ""); !errors.Is(err, owner.ErrStopped) {
		t.Errorf("located with %v", err)
	}
}
