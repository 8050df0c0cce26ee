package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
)

// client speaks raw HTTP to a gateway.
type client struct {
	t       *testing.T
	g       *gatewayNode
	view    string // with a leading slash; empty for all
	key     string // the API key
	version string // legacy: of the session
	session string // legacy: its token
	can     string // capabilities
}

const everything = `{"elicitation":{},"sampling":{},"roots":{}}`

// modern is a modern client of a view.
func (s *site) modern(gateway int, view string) *client {
	return &client{t: s.t, g: s.gateways[gateway], view: "/" + view, can: everything, version: mcp.V2026_07_28}
}

// legacy is a legacy client of a view, with a session.
func (s *site) legacy(gateway int, view, version string) *client {
	c := &client{t: s.t, g: s.gateways[gateway], view: "/" + view, can: everything, version: version}
	return c.initialize()
}

func (c *client) initialize() *client {
	c.t.Helper()
	a := c.send(http.Header{}, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+c.version+`","capabilities":`+c.can+`,"clientInfo":{"name":"test","version":"1"}}}`)
	if a.status != http.StatusOK || a.answer().Error != nil {
		c.t.Fatalf("initialize: %d %s", a.status, a.body)
	}
	c.session = a.header.Get(mcp.HeaderSession)
	if a := c.notify(mcp.MethodInitialized, ""); a.status != http.StatusAccepted {
		c.t.Fatalf("initialized: %d %s", a.status, a.body)
	}
	return c
}

// at is the same client at another gateway.
func (c *client) at(gateway int) *client {
	other := *c
	other.g = c.g.s.gateways[gateway]
	return &other
}

func (c *client) url() string { return c.g.url + strings.TrimSuffix(c.view, "/") }

// heard is the answer to one HTTP request, read to its end.
type heard struct {
	t        *testing.T
	status   int
	header   http.Header
	body     []byte
	messages []jsonrpc.Message
}

// answer is the one response among the messages.
func (h heard) answer() jsonrpc.Message {
	h.t.Helper()
	for _, m := range h.messages {
		if m.IsResponse() {
			return m
		}
	}
	h.t.Fatalf("no response came: %d %s", h.status, h.body)
	return jsonrpc.Message{}
}

// result is the answer's, which must be no error.
func (h heard) result() json.RawMessage {
	h.t.Helper()
	m := h.answer()
	if m.Error != nil {
		h.t.Fatalf("%d %s", h.status, m.Error)
	}
	return m.Result
}

// text is the first text of a tool's result.
func (h heard) text() string { h.t.Helper(); return text(h.result()) }

func text(result json.RawMessage) string {
	var r struct{ Content []struct{ Text string } }
	if json.Unmarshal(result, &r) != nil || len(r.Content) == 0 {
		return string(result)
	}
	return r.Content[0].Text
}

// code is the answer's error code; 0 where it is none.
func (h heard) code() int64 {
	h.t.Helper()
	m := h.answer()
	if m.Error == nil {
		return 0
	}
	return jsonrpc.ParseError(m.Error).Code
}

// notes are the notifications of a method.
func (h heard) notes(method string) []json.RawMessage {
	var params []json.RawMessage
	for _, m := range h.messages {
		if m.Method == method {
			params = append(params, m.Params)
		}
	}
	return params
}

// params completes a modern client's params.
func (c *client) params(params string) json.RawMessage {
	if params == "" {
		params = "{}"
	}
	p := json.RawMessage(params)
	if mcp.IsModern(c.version) {
		p = jsonrpc.With(p, jsonrpc.String(c.version), "_meta", mcp.MetaVersion)
		p = jsonrpc.With(p, json.RawMessage(c.can), "_meta", mcp.MetaCapabilities)
	}
	return p
}

// headers are those that the specification asks for with a message.
func (c *client) headers(method string, params json.RawMessage) http.Header {
	h := http.Header{}
	if mcp.IsModern(c.version) {
		h.Set(mcp.HeaderVersion, c.version)
		h.Set(mcp.HeaderMethod, method)
		for _, member := range map[string][]string{mcp.MethodToolsCall: {"name"}, mcp.MethodPromptsGet: {"name"}, mcp.MethodResourcesRead: {"uri"}}[method] {
			if value, ok := jsonrpc.GetString(params, member); ok {
				h.Set(mcp.HeaderName, mcp.EncodeHeader(value))
			}
		}
		return h
	}
	if c.version >= mcp.V2025_06_18 {
		h.Set(mcp.HeaderVersion, c.version)
	}
	h.Set(mcp.HeaderSession, c.session)
	return h
}

// call makes a request and reads its answer to the end.
func (c *client) call(id, method, params string) heard {
	c.t.Helper()
	p := c.params(params)
	return c.send(c.headers(method, p), string(jsonrpc.Request(json.RawMessage(id), method, p)))
}

// tool calls a tool.
func (c *client) tool(id, name, arguments string) heard {
	c.t.Helper()
	return c.call(id, mcp.MethodToolsCall, `{"name":"`+name+`","arguments":`+arguments+`}`)
}

func (c *client) notify(method, params string) heard {
	c.t.Helper()
	var p json.RawMessage
	if params != "" {
		p = json.RawMessage(params)
	}
	return c.send(c.headers(method, p), string(jsonrpc.Request(nil, method, p)))
}

// respond answers a server's request.
func (c *client) respond(id json.RawMessage, result string) heard {
	c.t.Helper()
	return c.send(c.headers("", nil), string(jsonrpc.Response(id, json.RawMessage(result))))
}

// send posts a body.
func (c *client) send(header http.Header, body string) heard {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return c.read(c.request(ctx, http.MethodPost, header, strings.NewReader(body)))
}

func (c *client) request(ctx context.Context, method string, header http.Header, body io.Reader) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url(), body)
	must(c.t, err)
	req.Header = header.Clone()
	defaults := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
	if method != http.MethodPost {
		defaults = map[string]string{"Accept": "text/event-stream"}
	}
	if c.key != "" {
		defaults["Authorization"] = "Bearer " + c.key
	}
	for k, v := range defaults {
		if _, set := req.Header[k]; !set {
			req.Header.Set(k, v)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	response, err := c.g.client.Do(req)
	must(c.t, err)
	return response
}

// quietly posts a body whose answer may never come.
func (c *client) quietly(ctx context.Context, header http.Header, body []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(), bytes.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if response, err := c.g.client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// read reads an answer to its end.
func (c *client) read(response *http.Response) heard {
	c.t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(c.t, err)
	h := heard{t: c.t, status: response.StatusCode, header: response.Header, body: body}
	if n := response.Header.Get("Content-Length"); n != "" && n != strconv.Itoa(len(body)) {
		c.t.Errorf("Content-Length %s, and %d bytes came", n, len(body))
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		decoder := sse.NewDecoder(bytes.NewReader(body), 64<<20)
		for {
			event, err := decoder.Next()
			if err != nil {
				return h
			}
			h.add(event.Data)
		}
	}
	h.add(body)
	return h
}

func (h *heard) add(data []byte) {
	if elements, ok, err := jsonrpc.Batch(data); ok && err == nil {
		for _, e := range elements {
			h.add(e)
		}
		return
	}
	if len(data) == 0 {
		return
	}
	m, err := jsonrpc.Parse(data)
	if err != nil && !m.IsResponse() {
		h.t.Errorf("received no message: %v: %.200q", err, data)
	}
	h.messages = append(h.messages, m)
}

// stream is an answer that is read while it comes.
type stream struct {
	t        *testing.T
	response *http.Response
	leave    context.CancelFunc
	events   chan got
	last     string // the id of the last event
}

type got struct {
	id string
	m  jsonrpc.Message
}

// begin makes a request and reads what comes while it comes.
func (c *client) begin(id, method, params string) *stream {
	c.t.Helper()
	p := c.params(params)
	ctx, leave := context.WithCancel(c.t.Context())
	return c.stream(leave, c.request(ctx, http.MethodPost, c.headers(method, p), bytes.NewReader(jsonrpc.Request(json.RawMessage(id), method, p))))
}

// listen opens the standing stream, or the rest of a stream behind an event.
func (c *client) listen(after string) *stream {
	c.t.Helper()
	ctx, leave := context.WithCancel(c.t.Context())
	h := c.headers("", nil)
	if after != "" {
		h.Set(mcp.HeaderLastEvent, after)
	}
	return c.stream(leave, c.request(ctx, http.MethodGet, h, nil))
}

func (c *client) stream(leave context.CancelFunc, response *http.Response) *stream {
	s := &stream{t: c.t, response: response, leave: leave, events: make(chan got, 10_000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.events)
		defer response.Body.Close()
		if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
			body, _ := io.ReadAll(response.Body)
			if m, err := jsonrpc.Parse(body); err == nil {
				s.events <- got{m: m}
			}
			return
		}
		decoder := sse.NewDecoder(response.Body, 64<<20)
		for {
			event, err := decoder.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrUnexpectedEOF) && c.t.Context().Err() == nil {
					c.t.Logf("a stream broke: %v", err)
				}
				return
			}
			g := got{id: event.ID}
			if !event.HasID {
				g.id = ""
			}
			if len(event.Data) > 0 {
				if g.m, err = jsonrpc.Parse(event.Data); err != nil {
					c.t.Errorf("received no message: %v: %.200q", err, event.Data)
				}
			}
			s.events <- g
		}
	}()
	c.t.Cleanup(func() {
		leave()
		<-ended
	})
	return s
}

// next waits for a message; ok is false when the stream ended.
func (s *stream) next() (g got, ok bool) {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case g, ok := <-s.events:
			if ok && g.id != "" {
				s.last = g.id
			}
			if ok && g.m.Method == "" && g.m.ID == nil && g.m.Error == nil {
				continue // tells an id only
			}
			return g, ok
		case <-late:
			s.t.Fatal("nothing came")
		}
	}
}

// message waits for a message.
func (s *stream) message() jsonrpc.Message {
	s.t.Helper()
	g, ok := s.next()
	if !ok {
		s.t.Fatalf("the stream ended (HTTP status %d)", s.response.StatusCode)
	}
	return g.m
}

// until waits for a message with a method, and passes over notifications of others.
func (s *stream) until(method string) jsonrpc.Message {
	s.t.Helper()
	for {
		m := s.message()
		if m.Method == method {
			return m
		}
		if m.IsResponse() {
			s.t.Fatalf("waiting for %s, the answer came: %s %s", method, m.Result, m.Error)
		}
	}
}

// answer waits for the response.
func (s *stream) answer() jsonrpc.Message {
	s.t.Helper()
	for {
		if m := s.message(); m.IsResponse() {
			return m
		}
	}
}

// ended waits for the stream's end, and fails if a message comes before.
func (s *stream) ended() {
	s.t.Helper()
	if g, ok := s.next(); ok {
		s.t.Fatalf("the stream goes on: %s %s %s", g.m.Method, g.m.Params, g.m.Result)
	}
}

// id waits until an event with an id came, and returns it.
func (s *stream) id() string {
	s.t.Helper()
	select {
	case g, ok := <-s.events:
		if !ok || g.id == "" {
			s.t.Fatalf("no event with an id came, but %+v", g)
		}
		s.last = g.id
		return g.id
	case <-time.After(patience):
		s.t.Fatal("no event came")
		return ""
	}
}
