package gateway_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/examples/fixtures"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// An owner that dies without a word is replaced once its lease has run out: its clients wait that long at most, and a
// little for the look-ups.
func TestASessionIsAdoptedWithinTheLease(t *testing.T) {
	const lease, slack = 5 * time.Second, 5 * time.Second // the slack is a loaded machine's
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, lease: lease, servers: []*registryv1.Server{fixture(t, "legacy", fixtures.Legacy)}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		mustAnswer(t, c.tool("1", "test_simple_text", "{}"))
		s.owners[0].die()
		died := time.Now()
		mustAnswer(t, c.tool("2", "test_simple_text", "{}"))
		if pause := time.Since(died); pause > lease+slack {
			t.Errorf("the next call was answered after %s", pause)
		}
		if n := s.owners[1].Sessions(); n != 1 {
			t.Errorf("the other owner has %d sessions", n)
		}
		began := time.Now()
		mustAnswer(t, c.at(1).tool("3", "test_simple_text", "{}"))
		if pause := time.Since(began); pause > slack { // for the other gateway it is no matter any more
			t.Errorf("at the other gateway a call was answered after %s", pause)
		}
	})
}

// A call that is bound to a session takes one hop from the gateway to its owner; lists, and calls that need no session,
// take none.
func TestASessionsCallTakesOneHop(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{fixture(t, "legacy", fixtures.Legacy), fixture(t, "modern", fixtures.Modern)}})
		hops := func() map[string]int {
			sum := map[string]int{}
			for _, o := range s.owners {
				for method, n := range o.wire.calls() {
					if method != "UseSessions" && method != "WatchSessions" { // of the gateway's own accord, whatever clients do
						sum[method] += n
					}
				}
			}
			return sum
		}
		inSession, across := s.legacy(0, "legacy", mcp.V2025_11_25), s.legacy(0, "modern", mcp.V2025_11_25)
		sessionless := s.modern(0, "modern")
		for what, x := range map[string]struct {
			ask  func(gateway int, id string) heard
			want map[string]int
		}{
			"a legacy server's tool": {func(g int, id string) heard { return inSession.at(g).tool(id, "test_simple_text", "{}") }, map[string]int{"Send": 1}},
			"a modern server's tool": {func(g int, id string) heard { return across.at(g).tool(id, "test_simple_text", "{}") }, map[string]int{"Send": 1}},
			"a resource": {func(g int, id string) heard {
				return inSession.at(g).call(id, mcp.MethodResourcesRead, `{"uri":"test://static-text"}`)
			}, map[string]int{"Send": 1}},
			"a prompt": {func(g int, id string) heard {
				return inSession.at(g).call(id, mcp.MethodPromptsGet, `{"name":"test_simple_prompt"}`)
			}, map[string]int{"Send": 1}},
			"a log level":            {func(g int, id string) heard { return inSession.at(g).call(id, mcp.MethodSetLevel, `{"level":"info"}`) }, map[string]int{"Send": 1}},
			"a list":                 {func(g int, id string) heard { return inSession.at(g).call(id, mcp.MethodToolsList, "") }, map[string]int{}},
			"a ping":                 {func(g int, id string) heard { return inSession.at(g).call(id, mcp.MethodPing, "") }, map[string]int{}},
			"a modern client's call": {func(g int, id string) heard { return sessionless.at(g).tool(id, "test_simple_text", "{}") }, map[string]int{}},
		} {
			for gateway := range s.gateways {
				cost := func(ids ...string) map[string]int {
					before := hops()
					for _, id := range ids {
						mustAnswer(t, x.ask(gateway, id))
					}
					after := hops()
					for method, n := range before {
						if after[method] -= n; after[method] == 0 {
							delete(after, method)
						}
					}
					return after
				}
				testkit.Eventually(t, func() bool { return cmp.Equal(cost("1"), x.want) }, patience) // until it knows the owner
				want := map[string]int{}
				for method, n := range x.want {
					want[method] = 3 * n
				}
				after := cost("2", "3", "4")
				if diff := cmp.Diff(want, after); diff != "" {
					t.Errorf("%s at gateway %d, three times (-want +got):\n%s", what, gateway, diff)
				}
			}
		}
	})
}
