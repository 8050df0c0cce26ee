package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"erlmcp.dev/examples/fixtures"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// An owner that stops hands its sessions over: their clients notice nothing, on any stream.
func TestAnOwnerThatStopsHandsItsSessionsOver(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c := s.legacy(0, "", mcp.V2025_11_25)
		standing := c.at(1).listen("")
		mustAnswer(t, c.call("1", mcp.MethodSetLevel, `{"level":"info"}`))
		mustAnswer(t, c.call("2", mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`))
		call := c.begin("3", mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
		start := call.id()
		call.answer()

		s.owners[0].stop()
		for gateway := range s.gateways {
			if got := len(c.at(gateway).tool("4", "test_tool_with_logging", "{}").notes(mcp.MethodMessage)); got != 3 {
				t.Errorf("gateway %d: %d log messages, want 3", gateway, got)
			}
		}
		if n := s.owners[1].Sessions(); n != 1 {
			t.Errorf("the other owner has %d sessions", n)
		}
		var events []string
		for _, m := range c.at(1).read(c.request(t.Context(), http.MethodGet, withLast(c.headers("", nil), start), nil)).messages {
			events = append(events, m.Method)
		}
		if fmt.Sprint(events) != fmt.Sprint([]string{mcp.MethodProgress, mcp.MethodProgress, mcp.MethodProgress, ""}) {
			t.Errorf("what happened before can be had as %q", events)
		}
		other := s.legacy(1, "", mcp.V2025_11_25)
		testkit.Eventually(t, func() bool { // the new owner subscribes in its own time
			other.tool("1", "test_trigger_resource_change", "{}")
			select {
			case g, open := <-standing.events:
				return open && g.m.Method == mcp.MethodResourceUpdated
			default:
				return false
			}
		}, patience)
		other.tool("2", "test_trigger_tool_change", "{}")
		s.refresh()
		standing.until(mcp.MethodToolsChanged)
	})
}

func withLast(h http.Header, id string) http.Header {
	h.Set(mcp.HeaderLastEvent, id)
	return h
}

// A gateway that drains ends what waits for events, so that its clients go to another one, where they miss nothing.
func TestAGatewayThatDrainsSendsItsClientsElsewhere(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, gateways: 2, servers: []*registryv1.Server{fixture(t, "dual", fixtures.Dual)}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		standing := c.listen("")
		listening := s.modern(0, "").begin("7", mcp.MethodListen, `{"notifications":{"toolsListChanged":true}}`)
		listening.until(mcp.MethodAcknowledged)
		c.tool("1", "test_trigger_tool_change", "{}")
		s.refresh()
		standing.until(mcp.MethodToolsChanged)
		listening.until(mcp.MethodToolsChanged)
		call := c.begin("2", mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
		call.until(mcp.MethodProgress)

		s.gateways[0].drain()
		standing.ended()
		closing := listening.answer()
		if kind, _ := jsonrpc.GetString(closing.Result, "resultType"); kind != mcp.ResultComplete || string(jsonrpc.Get(closing.Result, "_meta", mcp.MetaSubscriptionID)) != "7" {
			t.Errorf("the subscription ended with %s%s", closing.Result, closing.Error)
		}
		listening.ended()
		if got := text(call.answer().Result); got != "Progress complete." { // what is under way is finished
			t.Errorf("the call gave %q", got)
		}
		c.at(1).tool("3", "test_trigger_prompt_change", "{}")
		s.refresh()
		c.at(1).listen(standing.last).until(mcp.MethodPromptsChanged)
	})
}

// An owner that was frozen until its lease ran out can't write to sessions that another one took over.
func TestAFrozenOwnerCannotWrite(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		st, server := newStage(t, "stage", false)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, lease: 300 * time.Millisecond, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, `{"name":"count","arguments":{"to":100},"_meta":{"progressToken":"p"}}`)
		st.steps(t, 1)
		call.until(mcp.MethodProgress)
		before := call.last
		id := s.id(c)

		old := s.owners[0]
		old.lease.freeze(true)
		old.wire.cut()
		testkit.Eventually(t, func() error { // until the lease ran out
			if a := c.at(1).call("2", mcp.MethodSetLevel, `{"level":"error"}`); a.status != ok {
				return fmt.Errorf("answered %d", a.status)
			}
			return nil
		}, patience)
		if n := s.owners[1].Sessions(); n != 1 {
			t.Fatalf("the other owner has %d sessions", n)
		}

		// The old one still believes that it owns the session, and its call goes on.
		set, err := jsonrpc.Parse([]byte(`{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"debug"}}`))
		must(t, err)
		var moved *owner.MovedError
		if err := old.Request(t.Context(), id, owner.Asked{Message: &set}, func(owner.Event) error { return nil }); err != nil && !errors.As(err, &moved) && !errors.Is(err, owner.ErrHandedOver) {
			t.Errorf("the old owner answered %v", err)
		}
		go st.steps(t, 1)
		testkit.Eventually(t, func() bool { return old.Sessions() == 0 }, patience)
		held, err := s.held.Get(t.Context(), id)
		must(t, err)
		if got := string(held.State["level"]); got != "error" || held.Owner.Node != s.owners[1].name {
			t.Errorf("the session has the level %q and is %s's", got, held.Owner.Node)
		}
		a := c.at(1).read(c.at(1).request(t.Context(), http.MethodGet, withLast(c.headers("", nil), before), nil))
		for _, m := range a.messages {
			if m.Method == mcp.MethodProgress {
				t.Errorf("the old owner wrote %s", m.Params)
			}
		}

		// Once it wakes, it says who has the session now.
		old.wire.mend()
		old.lease.freeze(false)
		if facts, err := old.Locate(t.Context(), id, ""); err != nil || facts.Owner.Name != s.owners[1].name {
			t.Errorf("the old owner says that the session is %q's, %v", facts.Owner.Name, err)
		}
		for gateway := range s.gateways {
			if got := c.at(gateway).call("4", mcp.MethodPing, "").code(); got != 0 {
				t.Errorf("gateway %d: a ping gave %d", gateway, got)
			}
			testkit.Eventually(t, func() error {
				if a := c.at(gateway).call("5", mcp.MethodSetLevel, `{"level":"info"}`); a.status != ok || a.code() != 0 {
					return fmt.Errorf("gateway %d answered %d %s", gateway, a.status, a.body)
				}
				return nil
			}, patience)
		}
	})
}

// A call that is under way when its owner stops is answered: whether it was carried out is unknown.
func TestACallIsAnsweredWhenItsOwnerStops(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		st, server := newStage(t, "stage", false)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		reading, left := c.begin("1", mcp.MethodToolsCall, `{"name":"hold"}`), c.begin("2", mcp.MethodToolsCall, `{"name":"hold"}`)
		start := left.id()
		left.leave()
		within(t, st.held, "the first call")
		within(t, st.held, "the second call")
		s.owners[0].stop()
		for what, call := range map[string]*stream{"read": reading, "resumed": c.at(1).listen(start)} {
			if m := call.answer(); string(jsonrpc.Get(m.Error, "data", "dev.erlmcp/outcome")) != `"unknown"` {
				t.Errorf("a call whose stream is %s was answered %s%s", what, m.Result, m.Error)
			}
			call.ended()
		}
		if got := c.at(1).call("1", mcp.MethodPing, "").code(); got != 0 {
			t.Errorf("after that a ping gave %d", got)
		}
	})
}

// An operator who has a session handed over and goes away takes no time from its calls.
func TestACallOutlivesTheOperatorWhoDrainsItsSession(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		a, server := newAccount(t, false)
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, drain: patience, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		call := c.begin("1", mcp.MethodToolsCall, booking("", `{}`))
		within(t, a.began, "the call")
		ctx, leave := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() { drained <- s.owners[0].Drain(ctx, s.id(c)) }()
		set, err := jsonrpc.Parse([]byte(`{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}`))
		must(t, err)
		testkit.Eventually(t, func() bool { // the session begins no more calls
			err := s.owners[0].Request(t.Context(), s.id(c), owner.Asked{Message: &set}, func(owner.Event) error { return nil })
			return errors.Is(err, owner.ErrStopped)
		}, patience)
		leave()
		for i := range 50 { // meanwhile the session is used for what needs no owner
			mustAnswer(t, c.call(fmt.Sprint(100+i), mcp.MethodPing, ""))
		}
		a.goOn <- struct{}{}
		if m := call.answer(); text(m.Result) != "booking 1" {
			t.Errorf("answered %s%s", m.Result, m.Error)
		}
		must(t, within(t, drained, "the end of the drain"))
		if got := c.at(1).call("3", mcp.MethodSetLevel, `{"level":"info"}`).code(); got != 0 || s.owners[1].Sessions() != 1 {
			t.Errorf("after that a call gave %d, and the other owner has %d sessions", got, s.owners[1].Sessions())
		}
	})
}

// A call whose gateway lost the connection to its owner, which lives, is answered as if nothing had happened, also where
// it ended meanwhile.
func TestACallOutlivesTheConnectionToItsOwner(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		a, server := newAccount(t, false)
		s := newSite(t, options{store: kind, gateways: 1, owners: 2, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		answer := c.later("1", mcp.MethodToolsCall, booking("", `{}`))
		within(t, a.began, "the call")
		s.owners[0].wire.cut()
		testkit.Eventually(t, func() error { return s.entered(s.id(c), 1) }, patience)
		a.goOn <- struct{}{}
		testkit.Eventually(t, func() error { return s.entered(s.id(c), 0) }, patience)
		s.owners[0].wire.mend()
		if m := within(t, answer, "the answer"); text(m.Result) != "booking 1" {
			t.Errorf("answered %s%s", m.Result, m.Error)
		}
	})
}
