package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/examples/fixtures"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// asked is what a modern client is asked in a result, and what it called.
type asked struct {
	params json.RawMessage
	result json.RawMessage
}

// asks calls a tool that wants input.
func (c *client) asks(params string) asked {
	c.t.Helper()
	return asked{json.RawMessage(params), c.call("1", mcp.MethodToolsCall, params).result()}
}

func (a asked) state() string {
	s, _ := jsonrpc.GetString(a.result, "requestState")
	return s
}

// keys are the names of the inputs that are wanted.
func (a asked) keys() []string {
	o, _ := jsonrpc.ParseObject(jsonrpc.Get(a.result, "inputRequests"))
	return o.Keys()
}

// with are the params of the retry that brings inputs and a state; neither where empty.
func (a asked) with(state string, inputs map[string]string) string {
	params := a.params
	for key, input := range inputs {
		params = jsonrpc.With(params, json.RawMessage(input), "inputResponses", key)
	}
	if state != "" {
		params = jsonrpc.With(params, jsonrpc.String(state), "requestState")
	}
	return string(params)
}

const accepted = `{"action":"accept","content":{"username":"me","email":"x","name":"me"}}`

// A call that wants input goes on at whichever gateway the input comes to.
func TestInputComesToAnyGateway(t *testing.T) {
	ofEachEra(t, func(t *testing.T, s *site) {
		c := s.modern(0, "")
		one := c.asks(`{"name":"test_elicitation","arguments":{"message":"?"}}`)
		if kind, _ := jsonrpc.GetString(one.result, "resultType"); kind != mcp.ResultInputRequired || len(one.keys()) != 1 {
			t.Fatalf("asked %s", one.result)
		}
		answer := c.at(1).call("2", mcp.MethodToolsCall, one.with(one.state(), map[string]string{one.keys()[0]: accepted, "unknown": accepted}))
		if got := answer.text(); !strings.Contains(got, `"username":"me"`) {
			t.Errorf("got %q", got)
		}

		// Two rounds, each at another gateway.
		first := c.at(1).asks(`{"name":"test_input_required_result_multi_round"}`)
		second := asked{first.params, c.call("2", mcp.MethodToolsCall, first.with(first.state(), map[string]string{first.keys()[0]: accepted})).result()}
		if len(second.keys()) != 1 || second.state() == first.state() {
			t.Fatalf("the second round asked %s", second.result)
		}
		last := c.at(1).call("3", mcp.MethodToolsCall, second.with(second.state(), map[string]string{second.keys()[0]: `{"action":"accept","content":{"color":"blue"}}`}))
		if got := last.text(); got != "me likes blue." {
			t.Errorf("got %q", got)
		}

		// A client is asked only for what it declares.
		shy := *c
		shy.can = `{"sampling":{}}`
		for range 2 {
			a := shy.call("1", mcp.MethodToolsCall, `{"name":"test_elicitation","arguments":{"message":"?"}}`)
			if m := a.answer(); strings.Contains(string(m.Result), mcp.ResultInputRequired) {
				t.Errorf("a client that can't be asked was asked: %s", m.Result)
			}
		}
	})
}

// A requestState is good for the principal and request that it was made for, unchanged, and once.
func TestStatesAreChecked(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, gateways: 2, owners: 2, authn: someone{}, servers: []*registryv1.Server{
			fixture(t, "legacy", fixtures.Legacy), fixture(t, "second", fixtures.Legacy),
		}})
		alice := s.modern(0, "legacy").as("alice")
		a := alice.asks(`{"name":"test_elicitation","arguments":{"message":"a","n":9007199254740993}}`)
		state, key := a.state(), a.keys()[0]
		if state == "" {
			t.Fatalf("there is no state in %s", a.result)
		}
		inputs := map[string]string{key: accepted}
		other := func(params string) asked { return asked{params: json.RawMessage(params)} }
		elsewhere := s.modern(0, "second").as("alice")
		for name, x := range map[string]struct {
			c      *client
			params string
		}{
			"of another principal": {alice.as("bob"), a.with(state, inputs)},
			"of another server":    {elsewhere, a.with(state, inputs)},
			"of another tool":      {alice, other(`{"name":"test_sampling","arguments":{"message":"a","n":9007199254740993}}`).with(state, inputs)},
			"of other arguments":   {alice, other(`{"name":"test_elicitation","arguments":{"message":"b","n":9007199254740993}}`).with(state, inputs)},
			"of a near number":     {alice, other(`{"name":"test_elicitation","arguments":{"message":"a","n":9007199254740992}}`).with(state, inputs)},
			"with more arguments":  {alice, other(`{"name":"test_elicitation","arguments":{"message":"a","n":9007199254740993,"x":1}}`).with(state, inputs)},
			"tampered with":        {alice, a.with(state+"-TAMPERED", inputs)},
			"cut":                  {alice, a.with(state[:len(state)-1], inputs)},
			"doubled":              {alice, a.with(state+state, inputs)},
			"made up":              {alice, a.with("eyJhIjoib3duZXItMCJ9", inputs)},
			"empty":                {alice, string(jsonrpc.With(json.RawMessage(a.with("", inputs)), json.RawMessage(`""`), "requestState"))},
			"a session's id":       {alice, a.with((&client{t: t, g: s.gateways[0], view: "/", can: everything, version: mcp.V2025_11_25}).as("alice").initialize().session, inputs)},
			"a number":             {alice, string(jsonrpc.With(json.RawMessage(a.with("", inputs)), json.RawMessage(`7`), "requestState"))},
			"an object":            {alice, string(jsonrpc.With(json.RawMessage(a.with("", inputs)), json.RawMessage(`{}`), "requestState"))},
		} {
			for gateway := range s.gateways {
				answer := x.c.at(gateway).call("2", mcp.MethodToolsCall, x.params)
				if m := answer.answer(); answer.status != badRequest || answer.code() != jsonrpc.CodeInvalidParams {
					t.Errorf("a state %s was answered %d %s%s", name, answer.status, m.Result, m.Error)
				}
			}
		}

		// What is missing or no answer is asked for again.
		for i, input := range []map[string]string{nil, {"other": accepted}, {key: `7`}, {key: `null`}, {key: `"x"`}, {key: `[]`}} {
			again := asked{a.params, alice.at(i%2).call("2", mcp.MethodToolsCall, a.with(state, input)).result()}
			if len(again.keys()) != 1 || again.keys()[0] != key || again.state() == "" {
				t.Fatalf("with the inputs %v it asked %s", input, again.result)
			}
			state = again.state()
		}
		// Params may be written differently: what they say counts.
		respelled := asked{params: json.RawMessage(`{"arguments":{ "n":9007199254740993, "message":"\u0061"},"name":"test_elicitation"}`)}
		if got := alice.at(1).call("3", mcp.MethodToolsCall, respelled.with(state, inputs)).text(); !strings.Contains(got, `"username":"me"`) {
			t.Errorf("after all that the call gave %q", got)
		}
		for gateway := range s.gateways {
			if again := alice.at(gateway).call("4", mcp.MethodToolsCall, a.with(state, inputs)); again.code() != jsonrpc.CodeInvalidParams {
				t.Errorf("a state that was used was answered %s", again.body)
			}
		}
	})
}

// The owner that holds a waiting call is gone: the client is told, and may call again.
func TestAWaitingCallIsLostWithItsOwner(t *testing.T) {
	s := newSite(t, options{gateways: 2, owners: 2, servers: []*registryv1.Server{fixture(t, "legacy", fixtures.Legacy)}})
	c := s.modern(0, "")
	a := c.asks(`{"name":"test_elicitation","arguments":{"message":"a"}}`)
	for _, n := range s.owners {
		n.wire.cut()
	}
	lost := c.at(1).call("2", mcp.MethodToolsCall, a.with(a.state(), map[string]string{a.keys()[0]: accepted}))
	if m := lost.answer(); lost.status != 200 || string(jsonrpc.Get(m.Error, "data", "dev.erlmcp/outcome")) != `"unknown"` {
		t.Errorf("answered %d %s%s", lost.status, m.Result, m.Error)
	}
}

// A call whose client never brings the input that it asked for is cancelled at the server after its time, and nothing
// of it is left.
func TestAnAbandonedCallIsCancelled(t *testing.T) {
	st, server := newStage(t, "legacy", false)
	s := newSite(t, options{gateways: 2, inputWait: time.Second, servers: []*registryv1.Server{server}})
	c := s.modern(0, "")
	a := c.asks(`{"name":"ask"}`)
	if len(a.keys()) != 1 {
		t.Fatalf("asked %s", a.result)
	}
	if err := within(t, st.ended, "the call's end"); !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	testkit.Eventually(t, func() bool {
		late := c.at(1).call("2", mcp.MethodToolsCall, a.with(a.state(), map[string]string{a.keys()[0]: accepted}))
		return late.code() == jsonrpc.CodeInvalidParams
	}, patience)
}

// A server whose user must visit a page first says so by an error (-32042), or by asking; a modern client is asked for
// it as for any input, and calls again. Under an idempotency key too: nothing was carried out so far.
func TestUsersAreSentToURLs(t *testing.T) {
	for _, meta := range []string{``, `,"_meta":{"dev.erlmcp/idempotencyKey":"link"}`} {
		st, server := newStage(t, "legacy", false)
		_, other := newStage(t, "other", false)
		s := newSite(t, options{gateways: 2, servers: []*registryv1.Server{server, other}})
		c := s.modern(0, "legacy")
		c.can = `{"elicitation":{"url":{}}}`
		first := c.asks(`{"name":"link"` + meta + `}`)
		if len(first.keys()) != 1 {
			t.Fatalf("asked %s", first.result)
		}
		key := first.keys()[0]
		if url, _ := jsonrpc.GetString(first.result, "inputRequests", key, "params", "url"); url != "https://example.com/link" {
			t.Errorf("asked %s", first.result)
		}
		early := c.at(1).call("2", mcp.MethodToolsCall, first.with(first.state(), map[string]string{key: `{"action":"accept"}`}))
		if again := early.result(); jsonrpc.Get(again, "inputRequests") == nil {
			t.Errorf("before the page was visited the retry gave %s", again)
		}
		close(st.visited)
		if got := c.at(1).call("3", mcp.MethodToolsCall, first.with(first.state(), map[string]string{key: `{"action":"accept"}`})).text(); got != "linked" {
			t.Errorf("got %q", got)
		}

		// Who can't be asked for it is told what it lacks.
		shy := *c
		shy.can = `{"elicitation":{}}`
		shy.view = "/other"
		if refused := shy.call("4", mcp.MethodToolsCall, `{"name":"link"}`); refused.code() != mcp.CodeMissingCapability {
			t.Errorf("answered %s", refused.body)
		}
	}
}
