package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
)

// nowhere is a catalogue without servers.
type nowhere struct{}

func (nowhere) Current() *catalog.Catalog { return catalog.New() }

// closedDoor is an opener that opens nothing.
type closedDoor struct{}

func (closedDoor) Open(context.Context, *registryv1.CatalogServer, EndClient) (End, error) {
	return End{}, errors.New("closed")
}
func (closedDoor) Describe(context.Context, *registryv1.Server) (*registryv1.Offer, error) {
	return nil, errors.New("closed")
}

func hosts(t *testing.T) *guests {
	o := New(Config{Catalog: nowhere{}, Opener: closedDoor{}})
	t.Cleanup(o.guests.close)
	return o.guests
}

func capabilities(i int) json.RawMessage { return fmt.Appendf(nil, `{"experimental":{"n":%d}}`, i) }

func (g *guests) must(t *testing.T, principal string, capabilities json.RawMessage) *guest {
	t.Helper()
	e, refused := g.guest(principal, "server", capabilities, nil)
	if refused != nil {
		t.Fatal(refused)
	}
	return e
}

func TestGuestsAreApartByPrincipalServerAndCapabilities(t *testing.T) {
	g := hosts(t)
	alice := g.must(t, "alice", capabilities(1))
	if g.must(t, "alice", capabilities(1)) != alice {
		t.Error("the same client has two conversations")
	}
	if g.must(t, "bob", capabilities(1)) == alice || g.must(t, "alice", capabilities(2)) == alice {
		t.Error("different clients share a conversation")
	}
	if other, _ := g.guest("alice", "other", capabilities(1), nil); other == alice {
		t.Error("two servers share a conversation")
	}
}

// Whoever declares other capabilities each time ends its own conversations, the one unused longest first, and never
// those of others or those in use.
func TestOnePrincipalCannotTakeTheRoomOfOthers(t *testing.T) {
	g := hosts(t)
	bob := g.must(t, "bob", capabilities(0))
	busy := g.must(t, "alice", capabilities(0))
	busy.calls[&relayed{}] = struct{}{}
	oldest := g.must(t, "alice", capabilities(1))
	for i := 2; i <= maxGuestKinds; i++ {
		e := g.must(t, "alice", capabilities(i))
		e.used = time.Now().Add(time.Duration(i) * time.Second)
	}
	if n := g.of[pair{"alice", "server"}]; n != maxGuestKinds {
		t.Errorf("alice has %d conversations, and %d are allowed", n, maxGuestKinds)
	}
	if g.ends[oldest.key] == oldest {
		t.Error("the one unused longest is still there")
	}
	if g.ends[busy.key] != busy || g.ends[bob.key] != bob {
		t.Error("a conversation in use, or someone else's, was ended")
	}
	for _, e := range g.ends {
		e.calls[&relayed{}] = struct{}{}
	}
	if _, refused := g.guest("alice", "server", capabilities(99), nil); refused == nil {
		t.Error("a conversation beyond the limit was opened")
	}
	if _, refused := g.guest("carol", "server", capabilities(99), nil); refused != nil {
		t.Error("someone else was refused")
	}
	for _, e := range g.ends {
		clear(e.calls) // they never began
	}
}

func TestUnusedGuestsLeave(t *testing.T) {
	g := hosts(t)
	idle, busy, listening, fresh := g.must(t, "a", capabilities(1)), g.must(t, "b", capabilities(1)), g.must(t, "c", capabilities(1)), g.must(t, "d", capabilities(1))
	busy.calls[&relayed{}] = struct{}{}
	listening.subs["test://x"] = nil
	for _, e := range []*guest{idle, busy, listening} {
		e.used = time.Now().Add(-2 * guestIdleTime)
	}
	g.lookAfter()
	if len(g.ends) != 3 || g.ends[busy.key] != busy || g.ends[listening.key] != listening || g.ends[fresh.key] != fresh {
		t.Errorf("%d conversations are left", len(g.ends))
	}
	if len(g.of) != 3 {
		t.Errorf("%d principals are counted", len(g.of))
	}
	clear(busy.calls)
}

// Calls that wait for input which never comes are forgotten once they ended, and not before.
func TestWaitingCallsAreForgotten(t *testing.T) {
	g := hosts(t)
	e := g.must(t, "a", capabilities(1))
	g.waiting["over"] = &relayed{guest: e, done: time.Now().Add(-2 * g.owner.config.InputWait)}
	g.waiting["just over"] = &relayed{guest: e, done: time.Now()}
	g.waiting["under way"] = &relayed{guest: e}
	g.lookAfter()
	if len(g.waiting) != 2 || g.waiting["over"] != nil {
		t.Errorf("%d calls wait", len(g.waiting))
	}
}

func TestNobodyIsAGuestOfAnOwnerThatStops(t *testing.T) {
	g := hosts(t)
	e := g.must(t, "a", capabilities(1))
	g.close()
	if _, refused := g.guest("a", "server", capabilities(1), nil); refused == nil {
		t.Error("a conversation was opened")
	}
	if _, err := e.slot.get(t.Context()); err == nil {
		t.Error("a conversation goes on")
	}
}

func TestASessionHasABoundOnItsCallsAndQuestions(t *testing.T) {
	o := New(Config{Catalog: nowhere{}, Opener: closedDoor{}})
	s := newSession(o, record(), 1)
	defer s.close()
	for i := range maxCalls {
		s.calls[fmt.Sprint(i)] = &call{}
	}
	if _, _, refused, _ := s.begin(Asked{Message: message(`{"jsonrpc":"2.0","id":"one more","method":"tools/call"}`), Server: "server", Kind: StreamOnce}); refused == nil {
		t.Error("a call beyond the limit was begun")
	}
	if _, _, refused, _ := s.begin(Asked{Message: message(`{"jsonrpc":"2.0","id":7,"method":"tools/call"}`), Server: "server", Kind: StreamOnce}); refused == nil {
		t.Error("an id under way was begun again")
	}
	for i := range maxAsked {
		s.asked[fmt.Sprint(i)] = newQuestion()
	}
	if _, refused := s.ask(t.Context(), standingEmitter{s}, "roots/list", nil); refused == nil {
		t.Error("a question beyond the limit was asked")
	}
	clear(s.calls)
}

func record() store.Record {
	return store.Record{ID: "3f0c9d1e-6a52-4c0e-9a55-0d5f2f4a7b11", Principal: "a", Version: "2025-11-25"}
}

func message(s string) *jsonrpc.Message {
	m, err := jsonrpc.Parse([]byte(s))
	if err != nil {
		panic(err)
	}
	return &m
}
