package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// account is a server whose tool "book" must not be called twice, while "look" may.
type account struct {
	booked, looked atomic.Int32
	began          chan struct{}
	goOn           chan struct{} // each call takes one
	over           chan struct{} // the test is
}

func newAccount(t *testing.T, modern bool) (*account, *registryv1.Server) {
	a := &account{began: make(chan struct{}, 100), goOn: make(chan struct{}, 100), over: make(chan struct{})}
	options := &sdk.ServerOptions{}
	if !modern {
		options.SupportedProtocolVersions = []string{"2025-11-25", "2025-06-18"}
	}
	server := sdk.NewServer(&sdk.Implementation{Name: "account", Version: "1"}, options)
	schema := json.RawMessage(`{"type":"object"}`)
	server.AddTool(&sdk.Tool{Name: "book", InputSchema: schema}, a.book)
	server.AddTool(&sdk.Tool{Name: "look", InputSchema: schema, Annotations: &sdk.ToolAnnotations{ReadOnlyHint: true}}, a.look)
	declared := spoken(t, "account", server, &sdk.StreamableHTTPOptions{Stateless: modern})
	t.Cleanup(func() { close(a.over) })
	return a, declared
}

func (a *account) book(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	n := a.booked.Add(1)
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	if strings.Contains(string(req.Params.Arguments), "large") {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: strings.Repeat("x", 300<<10)}}}, nil
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint("booking ", n)}}}, nil
}

func (a *account) look(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	n := a.looked.Add(1)
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint("look ", n)}}}, nil
}

// wait tells that a call began, and waits until it may go on.
func (a *account) wait(ctx context.Context) error {
	a.began <- struct{}{}
	select {
	case <-a.goOn:
		return nil
	case <-a.over:
		return errors.New("the test is over")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// booking is a call's params; without a key where that is empty.
func booking(key, arguments string) string {
	params := json.RawMessage(`{"name":"book","arguments":` + arguments + `}`)
	if key != "" {
		params = jsonrpc.With(params, jsonrpc.String(key), "_meta", mcp.MetaIdempotencyKey)
	}
	return string(params)
}

// A call that is sent again under its key is carried out once, whichever client of the principal sends it, in either
// era and at any gateway.
func TestACallUnderAKeyIsCarriedOutOnce(t *testing.T) {
	for name, modern := range map[string]bool{"legacy server": false, "modern server": true} {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, kind string) {
				a, server := newAccount(t, modern)
				s := newSite(t, options{store: kind, gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
				clients := []*client{s.modern(0, ""), s.legacy(0, "", mcp.V2025_11_25)}

				for era, c := range clients {
					for range 3 {
						a.goOn <- struct{}{}
					}
					key := fmt.Sprint("key ", era)
					first := c.call("1", mcp.MethodToolsCall, booking(key, `{"sum":1}`)).text()
					for i, again := range []*client{c, c.at(1), clients[1-era].at(1)} {
						if got := again.call(fmt.Sprint(2+i), mcp.MethodToolsCall, booking(key, `{"sum":1}`)).text(); got != first {
							t.Errorf("the call gave %q and then %q", first, got)
						}
					}
					if got := c.call("7", mcp.MethodToolsCall, booking(key, `{"sum":2}`)).code(); got != jsonrpc.CodeInvalidParams {
						t.Errorf("another call under the key gave %d", got)
					}
					if got := c.call("8", mcp.MethodToolsCall, booking(key+"'", `{"sum":1}`)).text(); got == first {
						t.Errorf("under another key it gave %q too", got)
					}
					if got := c.call("9", mcp.MethodToolsCall, booking("", `{"sum":1}`)).text(); got == first {
						t.Errorf("without a key it gave %q too", got)
					}
					for _, bad := range []string{`""`, `7`, `"` + strings.Repeat("k", 257) + `"`} {
						params := `{"name":"book","arguments":{},"_meta":{"dev.erlmcp/idempotencyKey":` + bad + `}}`
						if got := c.call("10", mcp.MethodToolsCall, params).code(); got != jsonrpc.CodeInvalidParams {
							t.Errorf("the key %.20s gave %d", bad, got)
						}
					}
				}
				if n := a.booked.Load(); n != 6 {
					t.Errorf("booked %d times, want 6", n)
				}
			})
		})
	}
}

// A client that lost the stream of a call gets its result under the key, also while the call is still carried out.
func TestAClientComesBackWithItsKey(t *testing.T) {
	for name, modern := range map[string]bool{"legacy server": false, "modern server": true} {
		t.Run(name, func(t *testing.T) {
			a, server := newAccount(t, modern)
			s := newSite(t, options{gateways: 2, owners: 2, servers: []*registryv1.Server{server}})
			c := s.modern(0, "")
			ctx, leave := context.WithCancel(t.Context())
			params := c.params(booking("k", `{}`))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				c.quietly(ctx, c.headers(mcp.MethodToolsCall, params), jsonrpc.Request(json.RawMessage("1"), mcp.MethodToolsCall, params))
			}()
			within(t, a.began, "the booking")
			leave()
			<-gone
			answers := make(chan string)
			for _, gateway := range []int{0, 1} {
				go func() { answers <- c.at(gateway).call("2", mcp.MethodToolsCall, booking("k", `{}`)).text() }()
			}
			a.goOn <- struct{}{}
			for range 2 {
				if got := within(t, answers, "the result"); got != "booking 1" {
					t.Errorf("got %q", got)
				}
			}
			if n := a.booked.Load(); n != 1 {
				t.Errorf("booked %d times", n)
			}
		})
	}
}

// A result that is too large to be kept is told of, and the call is still not carried out again.
func TestAResultTooLargeToBeKept(t *testing.T) {
	a, server := newAccount(t, true)
	s := newSite(t, options{gateways: 1, owners: 1, servers: []*registryv1.Server{server}})
	c := s.modern(0, "")
	a.goOn <- struct{}{}
	if got := len(c.call("1", mcp.MethodToolsCall, booking("k", `{"large":true}`)).text()); got != 300<<10 {
		t.Errorf("the result has %d bytes", got)
	}
	again := c.call("2", mcp.MethodToolsCall, booking("k", `{"large":true}`)).answer()
	if string(jsonrpc.Get(again.Error, "data", "dev.erlmcp/outcome")) != `"done"` || a.booked.Load() != 1 {
		t.Errorf("answered %s%s after %d bookings", again.Result, again.Error, a.booked.Load())
	}
}

// Of a call under a key whose owner goes, by death or in good order, there is one result where it is read-only, and else
// the answer under the key is that nobody knows, then and later: it is not carried out again.
func TestACallUnderAKeyOutlivesItsOwner(t *testing.T) {
	for how, x := range map[string]struct {
		leave func(*ownerNode)
		// How long a silent holder keeps a key. One that stops gives it up at once.
		lease time.Duration
	}{
		"dies":  {(*ownerNode).die, time.Second},
		"stops": {func(n *ownerNode) { n.stop() }, time.Hour},
	} {
		for _, modern := range []bool{false, true} {
			for tool, want := range map[string]string{"look": "look 2", "book": "unknown"} {
				t.Run(fmt.Sprintf("%s/modern client %v/%s", how, modern, tool), func(t *testing.T) {
					onEachStore(t, func(t *testing.T, kind string) {
						a, server := newAccount(t, false)
						s := newSite(t, options{store: kind, gateways: 2, owners: 2, lease: time.Second, resultLease: x.lease, servers: []*registryv1.Server{server}})
						c := s.legacy(0, "", mcp.V2025_11_25) // and so the first owner is the one that the gateway knows
						if modern {
							c = s.modern(0, "")
						}
						params := strings.Replace(booking("k", `{}`), "book", tool, 1)
						answer := c.later("1", mcp.MethodToolsCall, params)
						within(t, a.began, "the call")
						x.leave(s.owners[0])
						calls := int32(1)
						if want != "unknown" {
							within(t, a.began, "the second try")
							calls = 2
							a.goOn <- struct{}{}
							a.goOn <- struct{}{}
						}
						if m := within(t, answer, "the answer"); outcome(m) != want {
							t.Errorf("answered %s%s, want %s", m.Result, m.Error, want)
						}
						if m := c.at(1).call("2", mcp.MethodToolsCall, params).answer(); outcome(m) != want {
							t.Errorf("sent again, it is answered %s%s, want %s", m.Result, m.Error, want)
						}
						if n := a.looked.Load() + a.booked.Load(); n != calls {
							t.Errorf("the server was called %d times", n)
						}
					})
				})
			}
		}
	}
}
