package transports

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// client is an MCP client of one revision over some wire.
type client struct {
	t       *testing.T
	wire    wire
	version string // modern where it is a modern one
	session string // from the result of initialize
	view    string // to be named in the first message, where the transport has no other place

	mu      sync.Mutex
	sending sync.Mutex
	next    int
	answers map[string]chan jsonrpc.Message
	ask     func(m jsonrpc.Message) string // answers requests of servers: JSON of the result; empty for none

	notes chan jsonrpc.Message
	asked chan jsonrpc.Message
	bad   chan jsonrpc.Message // answers with a null id
	ended chan struct{}
}

func newClient(t *testing.T, w wire, version string) *client {
	c := &client{
		t: t, wire: w, version: version, answers: map[string]chan jsonrpc.Message{},
		notes: make(chan jsonrpc.Message, 1000), asked: make(chan jsonrpc.Message, 100), bad: make(chan jsonrpc.Message, 100), ended: make(chan struct{}),
	}
	go c.read(t)
	t.Cleanup(func() {
		w.close()
		<-c.ended
	})
	return c
}

func (c *client) read(t *testing.T) {
	defer close(c.ended)
	for {
		data, err := c.wire.receive()
		if err != nil {
			return
		}
		m, err := jsonrpc.Parse(data)
		if err != nil {
			t.Errorf("received no message: %v: %.200q", err, data)
			continue
		}
		switch {
		case m.IsResponse():
			c.mu.Lock()
			answer := c.answers[string(m.ID)]
			c.mu.Unlock()
			if answer != nil {
				answer <- m
			} else {
				c.bad <- m
			}
		case m.IsRequest():
			c.mu.Lock()
			ask := c.ask
			c.mu.Unlock()
			if ask == nil {
				c.asked <- m
			} else if result := ask(m); result != "" {
				go func() { _ = c.send(string(jsonrpc.Response(m.ID, json.RawMessage(result)))) }()
			}
		default:
			select {
			case c.notes <- m:
			default:
			}
		}
	}
}

func (c *client) send(message string) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.wire.send(message)
}

func (c *client) modern() bool { return mcp.IsModern(c.version) }

const capabilities = `{"elicitation":{},"sampling":{},"roots":{}}`

// begin sends a request, with the metadata of a modern client, and returns its id and the way its answer comes.
func (c *client) begin(method, params string) (id string, answer chan jsonrpc.Message) {
	c.t.Helper()
	p := json.RawMessage(params)
	if c.modern() {
		p = jsonrpc.With(p, jsonrpc.String(c.version), "_meta", mcp.MetaVersion)
		if jsonrpc.Get(p, "_meta", mcp.MetaCapabilities) == nil {
			p = jsonrpc.With(p, json.RawMessage(capabilities), "_meta", mcp.MetaCapabilities)
		}
	}
	c.mu.Lock()
	c.next++
	if c.next == 1 && c.view != "" {
		p = jsonrpc.With(p, jsonrpc.String(c.view), "_meta", "dev.erlmcp/view")
	}
	id = fmt.Sprintf(`"%d"`, c.next)
	answer = make(chan jsonrpc.Message, 10)
	c.answers[id] = answer
	c.mu.Unlock()
	must(c.t, c.send(string(jsonrpc.Request(json.RawMessage(id), method, p))))
	return id, answer
}

func (c *client) await(answer chan jsonrpc.Message) jsonrpc.Message {
	c.t.Helper()
	return within(c.t, answer, "an answer")
}

func within[T any](t *testing.T, from chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	return got
}

// call makes a request and returns its result.
func (c *client) call(method, params string) json.RawMessage {
	c.t.Helper()
	id, answer := c.begin(method, params)
	m := c.await(answer)
	c.mu.Lock()
	delete(c.answers, id)
	c.mu.Unlock()
	if m.Error != nil {
		c.t.Fatalf("%s %s: %s", method, params, m.Error)
	}
	return m.Result
}

// tool calls a tool and returns the text of its result.
func (c *client) tool(name, arguments string) string {
	c.t.Helper()
	return text(c.call(mcp.MethodToolsCall, `{"name":"`+name+`","arguments":`+arguments+`}`))
}

func text(result json.RawMessage) string {
	var r struct{ Content []struct{ Text string } }
	_ = json.Unmarshal(result, &r)
	if len(r.Content) == 0 {
		return string(result)
	}
	return r.Content[0].Text
}

// note waits for a notification of some method, and passes over others.
func (c *client) note(method string) jsonrpc.Message {
	c.t.Helper()
	for {
		if m := within(c.t, c.notes, "the notification "+method); m.Method == method {
			return m
		}
	}
}

// noteWithin is note with a limit of its own; ok is false where none came.
func (c *client) noteWithin(method string, limit time.Duration) (m jsonrpc.Message, ok bool) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		select {
		case m := <-c.notes:
			if m.Method == method {
				return m, true
			}
		case <-late.C:
			return m, false
		}
	}
}

// noted takes a notification of some method that came already, and drops what came before it.
func (c *client) noted(method string) (m jsonrpc.Message, ok bool) {
	for {
		select {
		case m := <-c.notes:
			if m.Method == method {
				return m, true
			}
		default:
			return m, false
		}
	}
}

// drain drops what came and nobody waits for.
func (c *client) drain() {
	for {
		select {
		case <-c.notes:
		case <-c.asked:
		case <-c.bad:
		default:
			return
		}
	}
}

// connect begins the conversation as the client's era does.
func (c *client) connect() *client {
	c.t.Helper()
	return c.connectTo("")
}

// connectTo is connect to a session of before.
func (c *client) connectTo(session string) *client {
	c.t.Helper()
	if c.modern() {
		return c
	}
	params := json.RawMessage(`{"protocolVersion":"` + c.version + `","capabilities":` + capabilities + `,"clientInfo":{"name":"test","version":"1"}}`)
	if session != "" {
		params = jsonrpc.With(params, jsonrpc.String(session), "_meta", "dev.erlmcp/session")
	}
	result := c.call(mcp.MethodInitialize, string(params))
	if got, _ := jsonrpc.GetString(result, "protocolVersion"); got != c.version {
		c.t.Fatalf("negotiated %s, want %s", got, c.version)
	}
	c.session, _ = jsonrpc.GetString(result, "_meta", "dev.erlmcp/session")
	if w, is := c.wire.(*stream); is {
		c.session = w.token
	}
	must(c.t, c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	return c
}

func (c *client) answerWith(ask func(jsonrpc.Message) string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ask = ask
}
