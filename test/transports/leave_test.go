package transports

import (
	"fmt"
	"strconv"
	"testing"

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

				const numbers, drained = 1000, 300
				said := make(chan error, 1)
				go func() {
					for n := 1; n <= numbers; n++ {
						if n == drained {
							stopping.drain()
						}
						if err := session.Post(t.Context(), fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/x","params":{"n":%d}}`, n)); err != nil {
							said <- err
							return
						}
					}
					said <- nil
				}()
				within(t, c.ended, "the end of the connection")
				s.gateways = []*gateway{staying}
				again := newClientFrom(t, s, w, how, c)
				must(t, within(t, said, "the end of what is said"))
				close(c.notes)
				before := 0
				for m := range c.notes {
					before++
					expectNumber(t, m, before)
				}
				if before == 0 {
					t.Error("nothing came before the gateway stopped")
				}
				for n := before + 1; n <= numbers; n++ {
					expectNumber(t, again.note("notifications/x"), n)
				}
			})
		}
	}
}

func expectNumber(t *testing.T, m jsonrpc.Message, want int) {
	t.Helper()
	if n, err := strconv.Atoi(string(jsonrpc.Get(m.Params, "n"))); err != nil || n != want {
		t.Fatalf("%s came, want %d", m.Params, want)
	}
}
