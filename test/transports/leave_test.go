package transports

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// What is on its way to a client while its gateway stops comes once: on the connection that ends, or on the next one.
func TestADrainingGatewayLosesNothingThatIsOnItsWay(t *testing.T) {
	for _, w := range ways {
		if how := map[string]string{"websocket": "connecting", "tcp": "initialize", "sse": "connecting"}[w.name]; how != "" {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, options{gateways: 2})
				stopping, staying := s.gateways[0], s.gateways[1]
				s.gateways = []*gateway{stopping}
				c := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25).connect()
				c.call(mcp.MethodPing, `{}`)
				session, err := staying.engine.Session(t.Context(), engine.Client{Principal: access.Principal{ID: "anonymous"}}, c.session)
				must(t, err)

				// One number after the other is said, from before the gateway stops to after it has.
				const drained, behind = 100, 100
				said := make(chan int, 1)
				go func() {
					last := 0
					for n := 1; last == 0 || n <= last; n++ {
						switch {
						case n == drained:
							stopping.drain()
						case last == 0 && closed(c.ended):
							last = n + behind
						}
						if err := session.Post(t.Context(), fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/x","params":{"n":%d}}`, n)); err != nil {
							t.Error(err)
							break
						}
					}
					said <- last
				}()
				before := 0
				for open := true; open; {
					select {
					case m := <-c.notes:
						before++
						expectNumber(t, m, before)
					case <-c.ended:
						open = len(c.notes) > 0
					case <-time.After(patience):
						t.Fatal("the connection does not end")
					}
				}
				numbers := within(t, said, "the end of what is said")
				if before < drained/2 || before >= numbers {
					t.Errorf("%d of %d numbers came on the connection that ended", before, numbers)
				}
				s.gateways = []*gateway{staying}
				again := newClientFrom(t, s, w, how, c)
				for n := before + 1; n <= numbers; n++ {
					expectNumber(t, again.note("notifications/x"), n)
				}
				must(t, session.Post(t.Context(), []byte(`{"jsonrpc":"2.0","method":"notifications/x","params":{"n":0}}`)))
				expectNumber(t, again.note("notifications/x"), 0) // and nothing in between
			})
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func expectNumber(t *testing.T, m jsonrpc.Message, want int) {
	t.Helper()
	if n, err := strconv.Atoi(string(jsonrpc.Get(m.Params, "n"))); err != nil || n != want {
		t.Fatalf("%s came, want %d", m.Params, want)
	}
}

// A client that sends one request after the other is served until the connection of its gateway that stops ends, behind an
// answer. One request may come between the two: it is told that it was not carried out.
func TestADrainingConnectionRefusesNothing(t *testing.T) {
	for _, w := range ways {
		if w.name != "websocket" && w.name != "tcp" {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{})
			c := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25).connect()
			const drained = 20
			refused := false
			for n := 0; ; n++ {
				if n == drained {
					go s.gateways[0].drain()
				}
				if c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, n)) != nil {
					return // it ended
				}
				select {
				case m := <-c.bad:
					if m.Error != nil && (refused || !strings.Contains(string(m.Error), `"dev.erlmcp/outcome":"not_sent"`)) {
						t.Fatalf("request %d was refused: %s", n, m.Error)
					}
					refused = m.Error != nil
				case <-c.ended:
					if n < drained {
						t.Error("the connection ended before its gateway stopped")
					}
					return
				case <-time.After(patience):
					t.Fatal("nothing is answered")
				}
			}
		})
	}
}
