package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// outcome is the text of a call's result, or what its error says of the call.
func outcome(m jsonrpc.Message) string {
	if m.Error == nil {
		return text(m.Result)
	}
	said, _ := jsonrpc.GetString(m.Error, "data", "dev.erlmcp/outcome")
	return said
}

// later is the one answer that a request will have, for requests whose stream may not begin before.
func (c *client) later(id, method, params string) <-chan jsonrpc.Message {
	answer := make(chan jsonrpc.Message, 1)
	go func() {
		defer close(answer)
		a := c.call(id, method, params)
		answers := 0
		for _, m := range a.messages {
			if m.IsResponse() {
				answers++
			}
		}
		if answers != 1 {
			c.t.Errorf("%d answers came: %d %s", answers, a.status, a.body)
			return
		}
		answer <- a.answer()
	}()
	return answer
}

// entered fails unless a number of calls is in the ledger of a session.
func (s *site) entered(id string, want int) error {
	held, err := s.held.Get(s.t.Context(), id)
	n := 0
	for name := range held.State {
		if strings.HasPrefix(name, "call/") {
			n++
		}
	}
	if err == nil && n != want {
		err = fmt.Errorf("%d calls are in the ledger, want %d", n, want)
	}
	return err
}

// A call that is under way when its owner dies is carried out again where its annotations or its server's declaration
// let it, however long its params are, and its client gets one result. Of others the outcome is unknown.
func TestACallWhoseOwnerDies(t *testing.T) {
	const short, long = 10, 100 << 10
	for _, x := range []struct {
		name    string
		tool    string
		repeat  registryv1.Repeat
		bytes   int
		version string
		resumed bool // by the client, at another gateway
		want    string
	}{
		{name: "read-only", tool: "look", bytes: short, want: "look 2"},
		{name: "read-only, long params", tool: "look", bytes: long, want: "look 2"},
		{name: "read-only, without resumption", tool: "look", bytes: long, version: mcp.V2024_11_05, want: "look 2"},
		{name: "read-only, resumed elsewhere", tool: "look", bytes: short, resumed: true, want: "look 2"},
		{name: "read-only, long params, resumed elsewhere", tool: "look", bytes: long, resumed: true, want: "unknown"},
		{name: "read-only, never repeated", tool: "look", repeat: registryv1.Repeat_REPEAT_NEVER, bytes: short, want: "unknown"},
		{name: "with effects", tool: "book", bytes: short, want: "unknown"},
		{name: "with effects, long params", tool: "book", bytes: long, want: "unknown"},
		{name: "with effects, without resumption", tool: "book", bytes: short, version: mcp.V2024_11_05, want: "unknown"},
		{name: "with effects, always repeated", tool: "book", repeat: registryv1.Repeat_REPEAT_ALWAYS, bytes: long, want: "booking 2"},
	} {
		t.Run(x.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, kind string) {
				a, server := newAccount(t, false)
				server.Repeat = x.repeat
				s := newSite(t, options{store: kind, gateways: 2, owners: 2, lease: time.Second, servers: []*registryv1.Server{server}})
				version := mcp.V2025_11_25
				if x.version != "" {
					version = x.version
				}
				c := s.legacy(0, "", version)
				params := `{"name":"` + x.tool + `","arguments":{"text":"` + strings.Repeat("x", x.bytes) + `"}}`
				var answer <-chan jsonrpc.Message
				var call *stream
				if x.resumed {
					call = c.begin("1", mcp.MethodToolsCall, params)
					call.id() // it is in the ledger
					call.leave()
				} else {
					answer = c.later("1", mcp.MethodToolsCall, params)
				}
				within(t, a.began, "the call")
				if id := s.id(c); version != mcp.V2024_11_05 {
					testkit.Eventually(t, func() error { return s.entered(id, 1) }, patience)
				}
				s.owners[0].die()
				calls := int32(1)
				if x.want != "unknown" {
					calls = 2
				}
				if x.resumed {
					call = c.at(1).listen(call.last)
				}
				if calls == 2 {
					within(t, a.began, "the second try")
					a.goOn <- struct{}{}
					a.goOn <- struct{}{} // the first one ends too, and nobody hears of it
				}
				var m jsonrpc.Message
				if x.resumed {
					m = call.answer()
					call.ended()
				} else {
					m = within(t, answer, "the answer")
				}
				if outcome(m) != x.want {
					t.Errorf("answered %s%s, want %s", m.Result, m.Error, x.want)
				}
				if n := a.looked.Load() + a.booked.Load(); n != calls {
					t.Errorf("the server was called %d times", n)
				}
			})
		})
	}
}

// Calls that are under way leave room for what else is kept of their session, however many there are with long params.
func TestManyLongCallsLeaveRoomInTheirSession(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		a, server := newAccount(t, false)
		s := newSite(t, options{store: kind, gateways: 1, owners: 2, lease: time.Second, servers: []*registryv1.Server{server}})
		c := s.legacy(0, "", mcp.V2025_11_25)
		calls := make([]*stream, 20)
		for i := range calls {
			calls[i] = c.begin(fmt.Sprint(i), mcp.MethodToolsCall, `{"name":"look","arguments":{"text":"`+strings.Repeat("x", 15<<10)+`"}}`)
		}
		for _, call := range calls {
			within(t, a.began, "a call")
			call.id()
		}
		mustAnswer(t, c.call("100", mcp.MethodSetLevel, `{"level":"error"}`))
		held, err := s.held.Get(t.Context(), s.id(c))
		must(t, err)
		if got := string(held.State["level"]); got != "error" {
			t.Errorf("the session's level is kept as %q", got)
		}
		s.owners[0].die()
		for range calls {
			within(t, a.began, "a second try")
		}
		for range 2 * len(calls) {
			a.goOn <- struct{}{}
		}
		for i, call := range calls {
			if m := call.answer(); !strings.HasPrefix(text(m.Result), "look ") {
				t.Errorf("call %d was answered %s%s", i, m.Result, m.Error)
			}
			call.ended()
		}
	})
}
