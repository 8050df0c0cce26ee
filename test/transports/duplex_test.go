package transports

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
	"erlmcp.dev/shared/testkit"
)

// duplex runs a test over each transport on which one connection carries everything.
func duplex(t *testing.T, o options, test func(t *testing.T, s *site, w way)) {
	for _, w := range ways {
		if w.duplex {
			t.Run(w.name, func(t *testing.T) { test(t, newSite(t, o), w) })
		}
	}
}

func TestBothErasShareAConnection(t *testing.T) {
	duplex(t, options{}, func(t *testing.T, s *site, w way) {
		c := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25).connect()
		c.version = mcp.V2026_07_28
		if got := jsonrpc.Get(c.call(mcp.MethodToolsList, `{}`), "ttlMs"); got == nil {
			t.Error("a request with modern metadata got no modern answer")
		}
		c.version = mcp.V2025_11_25
		if got := jsonrpc.Get(c.call(mcp.MethodToolsList, `{}`), "ttlMs"); got != nil {
			t.Error("a request without metadata got a modern answer")
		}
	})
}

func TestMalformedMessagesAreAnsweredAndPassedOver(t *testing.T) {
	duplex(t, options{maxRequests: 2}, func(t *testing.T, s *site, w way) {
		c := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25)
		for _, x := range []struct{ message, code string }{
			{`{"broken":`, "-32700"},
			{`7`, "-32600"},
			{`{"jsonrpc":"1.0","method":"ping"}`, "-32600"},
			{`[]`, "-32600"},
			{`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "-32600"},
			{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, "-32600"},
			{`{"jsonrpc":"2.0","id":{},"method":"tools/list"}`, "-32600"},
			{`{"jsonrpc":"2.0","id":1,"method":"x","params":"p"}`, "-32600"},
		} {
			must(t, c.send(x.message))
			m := within(t, c.bad, "the answer to "+x.message)
			if got := string(jsonrpc.Get(m.Error, "code")); got != x.code {
				t.Errorf("%s was answered %s, want code %s", x.message, m.Error, x.code)
			}
		}
		_, answer := c.begin(mcp.MethodToolsList, `{}`)
		if m := c.await(answer); m.Error == nil {
			t.Error("a request before initialize was served")
		}
		c.connect().call(mcp.MethodToolsList, `{}`)
	})
}

func TestBatchesAreForOneRevision(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := newSite(t, options{})
			wire := w.dial(t, s.at(), "")
			must(t, wire.send(`{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}`))
			_, err := wire.receive()
			must(t, err)
			must(t, wire.send(`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"test_simple_text"}}]`))
			answer, err := wire.receive()
			must(t, err)
			var answers []struct{ ID int }
			if err := json.Unmarshal(answer, &answers); err != nil || len(answers) != 2 || answers[0].ID != 1 || answers[1].ID != 2 {
				t.Errorf("answered %s", answer)
			}
		})
	}
}

func TestIDsInFlightAndTooManyRequestsAreRefused(t *testing.T) {
	duplex(t, options{maxRequests: 2}, func(t *testing.T, s *site, w way) {
		c := newClient(t, w.dial(t, s.at(), ""), mcp.V2026_07_28)
		id, first := c.begin(mcp.MethodListen, `{"notifications":{"toolsListChanged":true}}`)
		c.note(mcp.MethodAcknowledged)
		must(t, c.send(`{"jsonrpc":"2.0","id":`+id+`,"method":"server/discover","params":{"_meta":{"`+mcp.MetaVersion+`":"2026-07-28","`+mcp.MetaCapabilities+`":{}}}}`))
		if m := c.await(first); !strings.Contains(string(m.Error), "under way") {
			t.Errorf("an id in flight was answered %s%s", m.Result, m.Error)
		}
		c.begin(mcp.MethodListen, `{"notifications":{"promptsListChanged":true}}`)
		c.note(mcp.MethodAcknowledged)
		_, third := c.begin(mcp.MethodToolsList, `{}`)
		if m := c.await(third); m.Error == nil {
			t.Error("a request beyond the limit was served")
		}
		must(t, c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`))
		testkit.Eventually(t, func() error {
			_, again := c.begin(mcp.MethodToolsList, `{}`)
			if m := c.await(again); m.Error != nil {
				return errors.New(string(m.Error))
			}
			return nil
		}, patience)
	})
}

func TestASessionIsTakenUpAgain(t *testing.T) {
	for _, w := range ways {
		for _, how := range map[string][]string{"websocket": {"initialize", "connecting"}, "tcp": {"initialize"}, "sse": {"connecting"}}[w.name] {
			t.Run(w.name+"/by "+how, func(t *testing.T) {
				s := newSite(t, options{})
				first := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25).connect()
				first.call(mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`)
				_, _ = first.begin(mcp.MethodToolsCall, `{"name":"test_sampling","arguments":{"prompt":"?"}}`)
				question := within(t, first.asked, "the server's question")
				first.wire.drop()
				<-first.ended

				again := newClientFrom(t, s, w, how, first)
				if _, is := again.wire.(*stream); is {
					again.call(mcp.MethodPing, `{}`) // the stream's reader is there
				}
				must(t, again.send(string(jsonrpc.Response(question.ID, json.RawMessage(`{"role":"assistant","model":"m","content":{"type":"text","text":"late"}}`)))))
				if m := within(t, again.bad, "the answer to the request of before"); !strings.Contains(string(m.Result), "late") {
					t.Errorf("answered %s%s", m.Result, m.Error)
				}
				again.tool("test_trigger_resource_change", `{}`)
				again.note(mcp.MethodResourceUpdated)

				// The newest connection counts: the one before ends.
				third := newClientFrom(t, s, w, how, first)
				third.call(mcp.MethodToolsList, `{}`)
				within(t, again.ended, "the end of the connection before")
			})
		}
	}
}

// newClientFrom comes back to another client's session.
func newClientFrom(t *testing.T, s *site, w way, how string, before *client) *client {
	t.Helper()
	if how == "connecting" {
		return newClient(t, w.dial(t, s.at(), before.session), before.version)
	}
	c := newClient(t, w.dial(t, s.at(), ""), before.version).connectTo(before.session)
	if c.session != before.session {
		t.Fatal("another session was opened")
	}
	return c
}

func TestASessionEndsWhenItsClientSaysGoodbye(t *testing.T) {
	for name, ends := range map[string]bool{"websocket": true, "stdio": true, "sse": true, "http": true, "tcp": false} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, options{resume: 50 * time.Millisecond})
			for _, w := range ways {
				if w.name == name {
					c := newClient(t, w.dial(t, s.at(), ""), mcp.V2025_11_25).connect()
					c.call(mcp.MethodToolsList, `{}`)
					if got := s.owner.Sessions(); got != 1 {
						t.Fatalf("%d sessions are open", got)
					}
					c.wire.close()
				}
			}
			if !ends {
				if got := s.owner.Sessions(); got != 1 {
					t.Errorf("%d sessions are open", got)
				}
				return
			}
			testkit.Eventually(t, func() error {
				if n := s.owner.Sessions(); n != 0 {
					return fmt.Errorf("%d sessions are open", n)
				}
				return nil
			}, patience)
		})
	}
}

func TestAClientThatDoesNotReadIsEndedAlone(t *testing.T) {
	for _, w := range ways {
		if !w.duplex || w.name == "stdio" { // whose one client ends with the process
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			s := newSite(t, options{writeTimeout: 300 * time.Millisecond, maxRequests: 1000})
			fine := newClient(t, w.dial(t, s.at(), ""), mcp.V2026_07_28)
			deaf := w.dial(t, s.at(), "")
			request := `{"jsonrpc":"2.0","id":%d,"method":"tools/list","params":{"_meta":{"` + mcp.MetaVersion + `":"2026-07-28","` + mcp.MetaCapabilities + `":{}}}}`
			ended := make(chan error, 1)
			go func() {
				for i := 0; ; i++ {
					if err := deaf.send(fmt.Sprintf(request, i)); err != nil {
						ended <- err
						return
					}
				}
			}()
			for over := false; !over; {
				select {
				case <-ended:
					over = true
				case <-time.After(50 * time.Millisecond):
				}
				fine.call(mcp.MethodToolsList, `{}`)
			}
		})
	}
}

func TestMessagesTooLong(t *testing.T) {
	s := newSite(t, options{maxBody: 10_000})
	long := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("x", 20_000) + `"}}`
	t.Run("tcp skips them", func(t *testing.T) {
		c := newClient(t, dialTCP(t, s.at(), ""), mcp.V2025_11_25).connect()
		must(t, c.send(long))
		within(t, c.bad, "the error")
		c.call(mcp.MethodPing, `{}`)
	})
	t.Run("websocket ends with 1009", func(t *testing.T) {
		w := dialWebSocket(t, s.at(), "").(*socket)
		must(t, w.send(long))
		expectClose(t, w, ws.StatusMessageTooBig)
	})
}

func expectClose(t *testing.T, w *socket, want ws.StatusCode) {
	t.Helper()
	for {
		_, err := w.receive()
		if err == nil {
			continue
		}
		if got := ws.CloseStatus(err); got != want {
			t.Errorf("closed with %d (%v), want %d", got, err, want)
		}
		return
	}
}

func TestBinaryFramesAreRefused(t *testing.T) {
	s := newSite(t, options{})
	w := dialWebSocket(t, s.at(), "").(*socket)
	if got := w.ws.Subprotocol(); got != "mcp" {
		t.Errorf("subprotocol %q", got)
	}
	must(t, w.ws.Write(t.Context(), ws.MessageBinary, []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)))
	expectClose(t, w, ws.StatusUnsupportedData)
}

func TestUpgradesAreGuarded(t *testing.T) {
	s := newSite(t, options{authn: access.Chain{}})
	for name, c := range map[string]struct {
		header http.Header
		path   string
		status int
	}{
		"no credential":  {nil, "/ws", http.StatusUnauthorized},
		"foreign origin": {http.Header{"Origin": {"https://evil.example"}}, "/ws", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			_, response, err := ws.Dial(t.Context(), "ws://"+s.gateways[0].api+c.path, &ws.DialOptions{HTTPHeader: c.header})
			if err == nil || response.StatusCode != c.status {
				t.Errorf("got %v, want %d", err, c.status)
			}
		})
	}
	open := newSite(t, options{})
	for _, path := range []string{"/ws/no-such-view", "/ws?session=forged"} {
		_, response, err := ws.Dial(t.Context(), "ws://"+open.gateways[0].api+path, nil)
		if err == nil || response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// token is an authenticator that knows one.
type token string

func (k token) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	if bearer != string(k) {
		return access.Principal{}, access.ErrUnauthenticated
	}
	return access.Principal{ID: "someone"}, nil
}

func TestTCPTakesTheCredentialFromTheFirstMessage(t *testing.T) {
	s := newSite(t, options{authn: token("sesame")})
	refused := newClient(t, dialTCP(t, s.at(), ""), mcp.V2025_11_25)
	_, answer := refused.begin(mcp.MethodInitialize, `{"protocolVersion":"2025-11-25","capabilities":{}}`)
	if m := refused.await(answer); !strings.Contains(string(m.Error), "dev.erlmcp/authorization") {
		t.Errorf("answered %s%s", m.Result, m.Error)
	}
	within(t, refused.ended, "the end of the connection")

	c := newClient(t, dialTCP(t, s.at(), ""), mcp.V2025_11_25)
	c.call(mcp.MethodInitialize, `{"protocolVersion":"2025-11-25","capabilities":{},"_meta":{"dev.erlmcp/authorization":"Bearer sesame","dev.erlmcp/view":"fixtures"}}`)
	c.call(mcp.MethodToolsList, `{}`)
}

func TestBrowsersOfferTheCredentialAsASubprotocol(t *testing.T) {
	s := newSite(t, options{authn: token("sesame")})
	dial := func(offers ...string) (*ws.Conn, *http.Response, error) {
		return ws.Dial(t.Context(), "ws://"+s.gateways[0].api+"/ws", &ws.DialOptions{Subprotocols: offers})
	}
	if _, response, err := dial("mcp", "bearer.guess"); err == nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong key: %v", err)
	}
	c, _, err := dial("mcp", "bearer.sesame")
	must(t, err)
	defer c.CloseNow()
	if c.Subprotocol() != "mcp" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
}

func TestHTTPAndTCPShareAPort(t *testing.T) {
	s := newSite(t, options{})
	silent, err := net.Dial("tcp", s.gateways[0].api) // holds up nobody
	must(t, err)
	defer silent.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://" + s.gateways[0].api + "/mcp")
	must(t, err)
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("GET /mcp: %s", response.Status)
	}
	newClient(t, dialTCP(t, s.at(), ""), mcp.V2025_11_25).connect()
}

func TestAClientThatEndsItsHalfStillGetsItsAnswers(t *testing.T) {
	s := newSite(t, options{})
	c, err := net.Dial("tcp", s.gateways[0].api)
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"test_tool_with_progress"}}`)
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	all, err := io.ReadAll(c)
	must(t, err)
	if !strings.Contains(string(all), "Progress complete.") {
		t.Errorf("got %s", all)
	}
}

func TestDrainingAnswersAndEndsSubscriptions(t *testing.T) {
	duplex(t, options{}, func(t *testing.T, s *site, w way) {
		c := newClient(t, w.dial(t, s.at(), ""), mcp.V2026_07_28)
		id, listening := c.begin(mcp.MethodListen, `{"notifications":{"toolsListChanged":true}}`)
		c.note(mcp.MethodAcknowledged)
		_, calling := c.begin(mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":1}}`)
		c.note(mcp.MethodProgress)
		s.gateways[0].drain()
		if m := c.note(mcp.MethodCancelled); string(jsonrpc.Get(m.Params, "requestId")) != id {
			t.Errorf("cancelled %s, want %s", m.Params, id)
		}
		if m := c.await(listening); string(jsonrpc.Get(m.Result, "_meta", mcp.MetaSubscriptionID)) != id {
			t.Errorf("the subscription ended with %s%s", m.Result, m.Error)
		}
		if m := c.await(calling); text(m.Result) != "Progress complete." {
			t.Errorf("the call ended with %s%s", m.Result, m.Error)
		}
		within(t, c.ended, "the end of the connection")
	})
	t.Run("websocket closes with 1001", func(t *testing.T) {
		s := newSite(t, options{})
		w := dialWebSocket(t, s.at(), "").(*socket)
		must(t, w.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		_, err := w.receive()
		must(t, err)
		s.gateways[0].drain()
		expectClose(t, w, ws.StatusGoingAway)
	})
}

func TestQuietConnectionsAreKeptAlive(t *testing.T) {
	s := newSite(t, options{keepAlive: 20 * time.Millisecond})
	pinged := make(chan struct{}, 100)
	c, _, err := ws.Dial(t.Context(), "ws://"+s.gateways[0].api+"/ws", &ws.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		pinged <- struct{}{}
		return true
	}})
	must(t, err)
	w := &socket{ws: c}
	quiet := newClient(t, w, mcp.V2025_11_25)
	for range 3 {
		within(t, pinged, "a ping")
	}
	quiet.connect()
}

// A browser's EventSource comes back by itself, with the id of the endpoint's event; where the session is gone it gets a
// new one. A client that names a session which is gone is told so.
func TestEventSourcesComeBackByTheEndpointsID(t *testing.T) {
	s := newSite(t, options{resume: 50 * time.Millisecond})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	stream := func(path, last string) (status int, endpoint sse.Event, end func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.gateways[0].api+path, nil)
		must(t, err)
		if last != "" {
			r.Header.Set(mcp.HeaderLastEvent, last)
		}
		response, err := (&http.Client{Transport: transport}).Do(r)
		must(t, err)
		end = func() { cancel(); _ = response.Body.Close() }
		t.Cleanup(end)
		if response.StatusCode == http.StatusOK {
			endpoint, err = sse.NewDecoder(response.Body, 1<<20).Next()
			must(t, err)
		}
		return response.StatusCode, endpoint, end
	}
	_, first, end := stream("/sse", "")
	end()
	_, again, end := stream("/sse", first.ID)
	if string(again.Data) != string(first.Data) {
		t.Errorf("it came back to %s, not %s", again.Data, first.Data)
	}
	end()
	testkit.Eventually(t, func() bool { return s.owner.Sessions() == 0 }, patience)
	if _, fresh, _ := stream("/sse", first.ID); len(fresh.Data) == 0 || string(fresh.Data) == string(first.Data) {
		t.Errorf("after the end of its session it got %s", fresh.Data)
	}
	if status, _, _ := stream("/sse?session="+first.ID, ""); status != http.StatusNotFound {
		t.Errorf("a session that is gone was answered %d", status)
	}
}
