package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/examples/fixtures"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
)

// bad is a request that must be refused, and how.
type bad struct {
	name string
	// method and params make the request, with the id 1 and what the client's era asks for; or body is all of it.
	method, params, body string
	// header replaces what the client would send; a header without values is not sent at all.
	header http.Header
	verb   string // POST
	status int
	code   int64  // of the JSON-RPC error; 0 where there is none
	id     string // that the error names: 1 for a method, else none
}

func (b bad) send(c *client) heard {
	c.t.Helper()
	params := c.params(b.params)
	header := c.headers(b.method, params)
	for key, values := range b.header {
		header[key] = values
	}
	body := b.body
	if b.method != "" {
		body = string(jsonrpc.Request(json.RawMessage("1"), b.method, params))
	}
	verb := b.verb
	if verb == "" {
		verb = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return c.read(c.request(ctx, verb, header, strings.NewReader(body)))
}

// refuses checks that each of some requests is refused as it should be.
func (c *client) refuses(cases []bad) {
	for _, b := range cases {
		c.t.Run(b.name, func(t *testing.T) {
			c := *c
			c.t = t
			a := b.send(&c)
			if a.status != b.status {
				t.Errorf("answered HTTP %d, want %d: %.200s", a.status, b.status, a.body)
			}
			if b.code == 0 {
				return
			}
			if len(a.messages) != 1 {
				t.Fatalf("answered %.200q", a.body)
			}
			m := a.messages[0]
			if code := jsonrpc.ParseError(m.Error).Code; code != b.code {
				t.Errorf("answered code %d, want %d: %s", code, b.code, m.Error)
			}
			if b.method != "" && b.id == "" {
				b.id = "1"
			}
			if id := string(m.ID); id != b.id && (b.id != "" || id != "null") {
				t.Errorf("the error names the id %q, want %q", id, b.id)
			}
		})
	}
}

// eras are a client of each revision.
func (s *site) eras(t *testing.T, gateway int) map[string]*client {
	clients := map[string]*client{}
	for _, version := range mcp.LegacyVersions {
		clients[version] = s.legacy(gateway, "", version)
	}
	clients[mcp.V2026_07_28] = s.modern(gateway, "")
	for _, c := range clients {
		c.t = t
	}
	return clients
}

func dual(t *testing.T) []*registryv1.Server {
	return []*registryv1.Server{fixture(t, "dual", fixtures.Dual)}
}

const ok, badRequest, notFound, forbidden = http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusForbidden

// What is no JSON is answered -32700, and what is JSON but no message -32600, in every revision.
func TestWhatIsNoMessageIsRefused(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	b := newBystander(t, s)
	cases := []bad{
		{name: "nothing", code: jsonrpc.CodeParse},
		{name: "white space", body: " \r\n\t", code: jsonrpc.CodeParse},
		{name: "words", body: "hello", code: jsonrpc.CodeParse},
		{name: "cut off", body: `{"jsonrpc":"2.0","id":1,"method":"ping"`, code: jsonrpc.CodeParse},
		{name: "two messages", body: `{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}`, code: jsonrpc.CodeParse},
		{name: "single quotes", body: `{'jsonrpc':'2.0'}`, code: jsonrpc.CodeParse},
		{name: "trailing comma", body: `{"jsonrpc":"2.0","id":1,"method":"ping",}`, code: jsonrpc.CodeParse},
		{name: "leading zero", body: `{"jsonrpc":"2.0","id":01,"method":"ping"}`, code: jsonrpc.CodeParse},
		{name: "line break in a string", body: "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\nng\"}", code: jsonrpc.CodeParse},
		{name: "invalid UTF-8", body: "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\"\xff\"}}", code: jsonrpc.CodeParse},
		{name: "a surrogate in UTF-8", body: "{\"jsonrpc\":\"2.0\",\"id\":\"\xed\xa0\x80\",\"method\":\"ping\"}", code: jsonrpc.CodeParse},
		{name: "byte order mark", body: "\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, code: jsonrpc.CodeParse},
		{name: "UTF-16", body: "{\x00}\x00", code: jsonrpc.CodeParse},
		{name: "nested too deep", body: `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}`, code: jsonrpc.CodeParse},
		{name: "a million brackets", body: strings.Repeat("[", 1<<20), code: jsonrpc.CodeParse},
		{name: "a million objects", body: strings.Repeat(`{"a":`, 1<<18), code: jsonrpc.CodeParse},

		{name: "a number", body: "7", code: jsonrpc.CodeInvalidRequest},
		{name: "a string", body: `"ping"`, code: jsonrpc.CodeInvalidRequest},
		{name: "null", body: "null", code: jsonrpc.CodeInvalidRequest},
		{name: "an empty object", body: "{}", code: jsonrpc.CodeInvalidRequest},
		{name: "no version", body: `{"id":1,"method":"ping"}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "JSON-RPC 1.0", body: `{"jsonrpc":"1.0","id":1,"method":"ping"}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "a number as version", body: `{"jsonrpc":2.0,"id":"a","method":"ping"}`, code: jsonrpc.CodeInvalidRequest, id: `"a"`},
		{name: "a number as method", body: `{"jsonrpc":"2.0","id":1,"method":7}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "an empty method", body: `{"jsonrpc":"2.0","id":1,"method":""}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "null as id", body: `{"jsonrpc":"2.0","id":null,"method":"ping"}`, code: jsonrpc.CodeInvalidRequest},
		{name: "an object as id", body: `{"jsonrpc":"2.0","id":{},"method":"ping"}`, code: jsonrpc.CodeInvalidRequest},
		{name: "a fraction as id", body: `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, code: jsonrpc.CodeInvalidRequest},
		{name: "true as id", body: `{"jsonrpc":"2.0","id":true,"method":"ping"}`, code: jsonrpc.CodeInvalidRequest},
		{name: "an array as params", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "a string as params", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":"x"}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "null as params", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "method and result", body: `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "result and error", body: `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "a result for nobody", body: `{"jsonrpc":"2.0","result":{}}`, code: jsonrpc.CodeInvalidRequest},
		{name: "a string as error", body: `{"jsonrpc":"2.0","id":1,"error":"x"}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "two methods", body: `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "two names", body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "two versions in the metadata", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"` + mcp.MetaVersion + `":"2026-07-28","` + mcp.MetaVersion + `":"2025-11-25"}}}`, code: jsonrpc.CodeInvalidRequest, id: "1"},
		{name: "an empty batch", body: "[]", code: jsonrpc.CodeInvalidRequest},
	}
	for i := range cases {
		cases[i].status = badRequest
		cases[i].header = http.Header{mcp.HeaderMethod: {mcp.MethodToolsCall}}
	}
	for version, c := range s.eras(t, 0) {
		t.Run(version, func(t *testing.T) {
			c.t = t
			c.refuses(cases)
		})
	}
	b.check()
}

// Batches are for revision 2025-03-26 alone; there, each message in them gets the answer that it would get alone.
func TestBatches(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	const two = `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]`
	for version, c := range s.eras(t, 0) {
		if version == mcp.V2025_03_26 {
			continue
		}
		t.Run(version+" refuses them", func(t *testing.T) {
			c.t = t
			c.refuses([]bad{{name: "of requests", body: two, status: badRequest, code: jsonrpc.CodeInvalidRequest}})
		})
	}
	c := s.legacy(0, "", mcp.V2025_03_26)
	for _, x := range []struct {
		name, body string
		status     int
		want       string // id and code of each answer
	}{
		{"requests", two, ok, "1:0 2:0"},
		{"notifications and answers", `[{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":"x","result":{}}]`, http.StatusAccepted, ""},
		{"good and bad", `[{"jsonrpc":"2.0","id":1,"method":"ping"},7,{"jsonrpc":"2.0","id":2},[],{"jsonrpc":"2.0","id":3,"method":"no/such"}]`, ok, "1:0 :-32600 2:-32600 :-32600 3:-32601"},
		{"initialize", `[{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}]`, ok, "1:-32600"},
		{"as many as may be", "[" + strings.Repeat(`{"jsonrpc":"2.0","method":"x"},`, 99) + `{"jsonrpc":"2.0","id":1,"method":"ping"}]`, ok, "1:0"},
		{"too many", "[" + strings.Repeat(`{"jsonrpc":"2.0","method":"x"},`, 100) + `{"jsonrpc":"2.0","id":1,"method":"ping"}]`, http.StatusRequestEntityTooLarge, ":-32600"},
		{"malformed", `[{"jsonrpc":"2.0","id":1,"method":"ping"},`, badRequest, ":-32700"},
	} {
		a := c.send(c.headers("", nil), x.body)
		var got []string
		for _, m := range a.messages {
			code := int64(0)
			if m.Error != nil {
				code = jsonrpc.ParseError(m.Error).Code
			}
			got = append(got, fmt.Sprintf("%s:%d", m.ID, code))
		}
		if answers := strings.Join(got, " "); a.status != x.status || answers != x.want {
			t.Errorf("%s: answered %d %q, want %d %q", x.name, a.status, answers, x.status, x.want)
		}
	}
	a := c.send(http.Header{}, two)
	if a.status != badRequest {
		t.Errorf("without a session: %d", a.status)
	}
}

// A method that the revision does not know, and params that its methods can't take.
func TestMethodsAndParamsAreChecked(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	b := newBystander(t, s)
	many, err := json.Marshal(make([]string, 1001))
	must(t, err)
	named := http.Header{mcp.HeaderName: {"something"}} // modern revisions want it even where the body has no name
	params := []bad{
		{name: "a call without params", header: named, method: mcp.MethodToolsCall, code: jsonrpc.CodeInvalidParams},
		{name: "a number as name", header: named, method: mcp.MethodToolsCall, params: `{"name":7}`, code: jsonrpc.CodeInvalidParams},
		{name: "an unknown tool", method: mcp.MethodToolsCall, params: `{"name":"no_such"}`, code: jsonrpc.CodeInvalidParams},
		{name: "an endless name", method: mcp.MethodToolsCall, params: `{"name":"` + strings.Repeat("n", 10_000) + `"}`, code: jsonrpc.CodeInvalidParams},
		{name: "an unknown prompt", method: mcp.MethodPromptsGet, params: `{"name":"no_such"}`, code: jsonrpc.CodeInvalidParams},
		{name: "no URI", header: named, method: mcp.MethodResourcesRead, params: `{}`, code: jsonrpc.CodeInvalidParams},
		{name: "an array as URI", header: named, method: mcp.MethodResourcesRead, params: `{"uri":[]}`, code: jsonrpc.CodeInvalidParams},
		{name: "a number as cursor", method: mcp.MethodToolsList, params: `{"cursor":7}`, code: jsonrpc.CodeInvalidParams},
		{name: "a cursor of somewhere else", method: mcp.MethodToolsList, params: `{"cursor":"bm9uc2Vuc2U"}`, code: jsonrpc.CodeInvalidParams},
		{name: "completing nothing", method: mcp.MethodComplete, params: `{"argument":{"name":"a","value":""}}`, code: jsonrpc.CodeInvalidParams},
		{name: "completing an unknown kind", method: mcp.MethodComplete, params: `{"ref":{"type":"ref/tool","name":"x"}}`, code: jsonrpc.CodeInvalidParams},
		{name: "completing a string", method: mcp.MethodComplete, params: `{"ref":"ref/prompt"}`, code: jsonrpc.CodeInvalidParams},
	}
	legacy := []bad{
		{name: "an unknown method", method: "no/such", code: jsonrpc.CodeMethodNotFound},
		{name: "a method of another case", method: "Tools/List", code: jsonrpc.CodeMethodNotFound},
		{name: "discovery", method: mcp.MethodDiscover, code: jsonrpc.CodeMethodNotFound},
		{name: "listening", method: mcp.MethodListen, params: `{"notifications":{}}`, code: jsonrpc.CodeMethodNotFound},
		{name: "a server's method", method: mcp.MethodSample, params: `{}`, code: jsonrpc.CodeMethodNotFound},
		{name: "a resource that nobody has", method: mcp.MethodResourcesRead, params: `{"uri":"no://such"}`, code: mcp.CodeResourceNotFound},
		{name: "an unknown log level", method: mcp.MethodSetLevel, params: `{"level":"loud"}`, code: jsonrpc.CodeInvalidParams},
		{name: "a number as log level", method: mcp.MethodSetLevel, params: `{"level":7}`, code: jsonrpc.CodeInvalidParams},
		{name: "no log level", method: mcp.MethodSetLevel, code: jsonrpc.CodeInvalidParams},
		{name: "initialize without a revision", method: mcp.MethodInitialize, params: `{"capabilities":{}}`, code: jsonrpc.CodeInvalidParams},
		{name: "initialize with a number as revision", method: mcp.MethodInitialize, params: `{"protocolVersion":7}`, code: jsonrpc.CodeInvalidParams},
		{name: "initialize with an array of capabilities", method: mcp.MethodInitialize, params: `{"protocolVersion":"2025-11-25","capabilities":[]}`, code: jsonrpc.CodeInvalidParams},
	}
	modern := []bad{
		{name: "a resource that nobody has", method: mcp.MethodResourcesRead, params: `{"uri":"no://such"}`, code: jsonrpc.CodeInvalidParams},
		{name: "listening for nothing", method: mcp.MethodListen, code: jsonrpc.CodeInvalidParams},
		{name: "listening for an array", method: mcp.MethodListen, params: `{"notifications":[]}`, code: jsonrpc.CodeInvalidParams},
		{name: "listening for a string", method: mcp.MethodListen, params: `{"notifications":{"resourceSubscriptions":"a"}}`, code: jsonrpc.CodeInvalidParams},
		{name: "listening for numbers", method: mcp.MethodListen, params: `{"notifications":{"resourceSubscriptions":[1]}}`, code: jsonrpc.CodeInvalidParams},
		{name: "listening for too much", method: mcp.MethodListen, params: `{"notifications":{"resourceSubscriptions":` + string(many) + `}}`, code: jsonrpc.CodeInvalidParams},
		{name: "an unknown log level", method: mcp.MethodToolsList, params: `{"_meta":{"` + mcp.MetaLogLevel + `":"loud"}}`, code: jsonrpc.CodeInvalidParams},
		{name: "a number as log level", method: mcp.MethodToolsList, params: `{"_meta":{"` + mcp.MetaLogLevel + `":7}}`, code: jsonrpc.CodeInvalidParams},
	}
	for _, method := range []string{
		"no/such", "Tools/List", mcp.MethodInitialize, mcp.MethodPing, mcp.MethodSetLevel, mcp.MethodSubscribe, mcp.MethodUnsubscribe,
		mcp.MethodSample, mcp.MethodElicit, mcp.MethodRootsList,
	} {
		modern = append(modern, bad{name: method, method: method, status: notFound, code: jsonrpc.CodeMethodNotFound})
	}
	for version, c := range s.eras(t, 0) {
		cases := append(params[:len(params):len(params)], legacy...)
		status := ok
		if mcp.IsModern(version) {
			cases, status = append(params[:len(params):len(params)], modern...), badRequest
		}
		for i := range cases {
			if cases[i].status == 0 {
				cases[i].status = status
			}
		}
		t.Run(version, func(t *testing.T) {
			c.t = t
			c.refuses(cases)
			for _, notification := range []string{"notifications/no_such", mcp.MethodCancelled, mcp.MethodProgress, "tools/call"} {
				if a := c.notify(notification, `{"requestId":[{}],"progressToken":{}}`); a.status != http.StatusAccepted || len(a.body) > 0 {
					t.Errorf("the notification %s was answered %d %s", notification, a.status, a.body)
				}
			}
			stray, want := c.respond(json.RawMessage(`"nobody-asked"`), "{}"), http.StatusAccepted
			if mcp.IsModern(version) {
				want = badRequest
			}
			if stray.status != want {
				t.Errorf("an answer that nobody asked for was answered %d, want %d", stray.status, want)
			}
		})
	}
	b.check()
}

// What surrounds a message: media types, origins, hosts, paths and verbs.
func TestHTTPIsChecked(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	b := newBystander(t, s)
	const refused = jsonrpc.CodeInvalidRequest
	with := func(key string, values ...string) http.Header { return http.Header{key: values} }
	cases := []bad{
		{name: "no media type", header: with("Content-Type"), status: http.StatusUnsupportedMediaType},
		{name: "plain text", header: with("Content-Type", "text/plain"), status: http.StatusUnsupportedMediaType},
		{name: "a form", header: with("Content-Type", "application/x-www-form-urlencoded"), status: http.StatusUnsupportedMediaType},
		{name: "JSON lines", header: with("Content-Type", "application/jsonl"), status: http.StatusUnsupportedMediaType},
		{name: "a malformed media type", header: with("Content-Type", "application/json; charset"), status: http.StatusUnsupportedMediaType},
		{name: "accepting pages", header: with("Accept", "text/html"), status: http.StatusNotAcceptable},
		{name: "accepting nothing", header: with("Accept", ""), status: http.StatusNotAcceptable},
		{name: "a foreign origin", header: with("Origin", "https://evil.example"), status: forbidden},
		{name: "a foreign origin that begins like ours", header: with("Origin", "http://127.0.0.1.evil.example"), status: forbidden},
		{name: "no origin to tell", header: with("Origin", "null"), status: forbidden},
		{name: "an empty origin", header: with("Origin", ""), status: forbidden},
		{name: "two origins", header: with("Origin", "http://localhost", "https://evil.example"), status: forbidden},
		{name: "a foreign host", header: with("Host", "evil.example"), status: forbidden},
		{name: "a foreign host with our port", header: with("Host", "evil.example:8081"), status: forbidden},
		{name: "a foreign host and origin that agree", header: http.Header{"Host": {"evil.example"}, "Origin": {"http://evil.example"}}, status: forbidden},
		{name: "PUT", verb: http.MethodPut, status: http.StatusMethodNotAllowed},
		{name: "PATCH", verb: http.MethodPatch, status: http.StatusMethodNotAllowed},
		{name: "OPTIONS", verb: http.MethodOptions, status: http.StatusMethodNotAllowed},
	}
	for i := range cases {
		cases[i].body, cases[i].code = `{"jsonrpc":"2.0","id":1,"method":"ping"}`, refused
	}
	for version, c := range s.eras(t, 0) {
		t.Run(version, func(t *testing.T) {
			c.t = t
			c.refuses(cases)
			other := *c
			other.view = "/no-such-view"
			other.refuses([]bad{{name: "an unknown view", body: cases[0].body, status: notFound, code: refused}})
			if mcp.IsModern(version) {
				c.refuses([]bad{
					{name: "GET", verb: http.MethodGet, header: http.Header{mcp.HeaderVersion: {version}}, status: http.StatusMethodNotAllowed},
					{name: "DELETE", verb: http.MethodDelete, header: http.Header{mcp.HeaderVersion: {version}}, status: http.StatusMethodNotAllowed},
					{name: "listening without accepting events", method: mcp.MethodListen, params: `{"notifications":{}}`, header: with("Accept", "application/json"), status: http.StatusNotAcceptable},
				})
			} else {
				c.refuses([]bad{{name: "GET without accepting events", verb: http.MethodGet, header: with("Accept", "application/json"), status: http.StatusNotAcceptable}})
			}
			for name, header := range map[string]http.Header{
				"no Accept":                   with("Accept"),
				"accepting anything":          with("Accept", "*/*"),
				"accepting JSON alone":        with("Accept", "application/json"),
				"two Accept headers":          with("Accept", "application/json", "text/event-stream;q=0.5"),
				"a media type's parameter":    with("Content-Type", "application/json; charset=utf-8"),
				"an origin of this machine":   with("Origin", "http://localhost:6274"),
				"a host name of this machine": with("Host", "localhost:1"),
			} {
				if a := (bad{method: mcp.MethodToolsList, header: header}).send(c); a.status != ok || a.code() != 0 {
					t.Errorf("%s: answered %d %s", name, a.status, a.body)
				}
			}
		})
	}
	b.check()
}

// someone knows principals by tokens that are their names.
type someone struct{}

func (someone) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	if bearer == "" || bearer == "stranger" {
		return access.Principal{}, access.ErrUnauthenticated
	}
	return access.Principal{ID: bearer}, nil
}

// as is the same client with another credential.
func (c *client) as(principal string) *client {
	other := *c
	other.key = principal
	return &other
}

// A session is good for its own principal and view, as long as it lasts, with a revision that has sessions.
func TestSessionsAreChecked(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, gateways: 2, servers: dual(t), authn: someone{}})
		alice := (&client{t: t, g: s.gateways[0], view: "/", can: everything, version: mcp.V2025_11_25}).as("alice").initialize()
		ended := (&client{t: t, g: s.gateways[0], view: "/", can: everything, version: mcp.V2025_11_25}).as("alice").initialize()
		if a := (bad{verb: http.MethodDelete}).send(ended); a.status != http.StatusNoContent {
			t.Fatalf("DELETE was answered %d", a.status)
		}
		elsewhere, tampered, cut, none, twice := *alice, *alice, *alice, *alice, *alice
		elsewhere.view = "/dual"
		last := alice.session[len(alice.session)/2]
		tampered.session = strings.Replace(alice.session, string(last), string('A'+(last-'A'+1)%26), 1)
		cut.session = alice.session[:len(alice.session)-1]
		none.session = ""
		twice.session = alice.session + alice.session
		for name, x := range map[string]struct {
			c      *client
			status int
		}{
			"another principal's":  {alice.as("bob"), notFound},
			"of another view":      {&elsewhere, notFound},
			"tampered with":        {&tampered, notFound},
			"cut":                  {&cut, notFound},
			"doubled":              {&twice, notFound},
			"ended":                {ended, notFound},
			"none":                 {&none, badRequest},
			"without a credential": {alice.as("stranger"), http.StatusUnauthorized},
			"forged":               {&client{session: "3f2a1c", version: mcp.V2025_11_25, key: "alice", view: "/"}, notFound},
			"endless":              {&client{session: strings.Repeat("A", 100_000), version: mcp.V2025_11_25, key: "alice", view: "/"}, notFound},
		} {
			t.Run(name, func(t *testing.T) {
				for gateway := range s.gateways {
					c := *x.c
					c.t, c.g = t, s.gateways[gateway]
					for _, b := range []bad{
						{body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`},
						{body: `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`},
						{body: `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`},
						{verb: http.MethodGet},
						{verb: http.MethodGet, header: http.Header{mcp.HeaderLastEvent: {"0:1"}}},
						{verb: http.MethodDelete},
					} {
						if a := b.send(&c); a.status != x.status {
							t.Errorf("%s %s was answered %d, want %d", b.verb, b.body, a.status, x.status)
						}
					}
				}
			})
		}
		for _, version := range []string{"2025-11-24", "1.0", "latest", "2024-11-5"} {
			for _, verb := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				b := bad{verb: verb, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, header: http.Header{mcp.HeaderVersion: {version}}}
				want := badRequest
				if version == "latest" && verb != http.MethodPost { // sorts behind the modern revisions, which know POST only
					want = http.StatusMethodNotAllowed
				}
				if a := b.send(alice); a.status != want {
					t.Errorf("%s with revision %q was answered %d, want %d", verb, version, a.status, want)
				}
			}
		}
		if a := (bad{body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, header: http.Header{mcp.HeaderVersion: nil}}).send(alice); a.status != ok || a.code() != 0 {
			t.Errorf("without a revision the session was answered %d", a.status)
		}
		for gateway := range s.gateways {
			if got := alice.at(gateway).tool("1", "test_simple_text", "{}").code(); got != 0 {
				t.Errorf("after all that the session gives %d", got)
			}
		}
	})
}

// A session that nobody used for long is no more.
func TestAnIdleSessionIsNoMore(t *testing.T) {
	s := newSite(t, options{servers: dual(t), idle: 200 * time.Millisecond, gateways: 2})
	c := s.legacy(0, "", mcp.V2025_11_25)
	testkit.Eventually(t, func() bool { return s.owners[0].Sessions() == 0 }, patience)
	for gateway := range s.gateways {
		if a := (bad{method: mcp.MethodToolsCall, params: `{"name":"test_simple_text"}`}).send(c.at(gateway)); a.status != notFound {
			t.Errorf("gateway %d answered %d", gateway, a.status)
		}
	}
}

// Ids that no event ever had are refused, and ids whose events are gone say so; the session goes on.
func TestEventIDsAreChecked(t *testing.T) {
	onEachStore(t, func(t *testing.T, kind string) {
		s := newSite(t, options{store: kind, servers: dual(t), events: 4})
		c := s.legacy(0, "", mcp.V2025_11_25)
		st := c.begin("1", mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
		first := st.id()
		st.answer()
		other := s.legacy(0, "", mcp.V2025_11_25)
		for _, id := range []string{"x", ":", "0", "0:", ":1", "0:x", "0:-1", "0:1.5", "0:0x1", "0: 1", "0:99999999999999999999999", strings.Repeat("s", 33) + ":1", strings.Repeat("9", 8000)} {
			if a := (bad{verb: http.MethodGet, header: http.Header{mcp.HeaderLastEvent: {id}}}).send(c); a.status != badRequest {
				t.Errorf("%.40q was answered %d, want 400", id, a.status)
			}
		}
		if a := (bad{verb: http.MethodGet, header: http.Header{mcp.HeaderLastEvent: {first}}}).send(other); len(a.messages) > 0 {
			t.Errorf("another session's event id brought %s", a.body)
		}
		c.call("2", mcp.MethodToolsCall, `{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}`)
		if a := (bad{verb: http.MethodGet, header: http.Header{mcp.HeaderLastEvent: {first}}}).send(c); a.status != notFound {
			t.Errorf("an event whose successors are gone was answered %d %s", a.status, a.body)
		}
		if got := c.tool("3", "test_simple_text", "{}").code(); got != 0 {
			t.Errorf("after all that the session gives %d", got)
		}
	})
}

// A modern request repeats itself in headers, and metadata that lacks something says what.
func TestModernHeadersAreChecked(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	b := newBystander(t, s)
	const region = `{"name":"test_x_mcp_header","arguments":{"region":"us-west1"}}`
	with := func(key string, values ...string) http.Header {
		return http.Header{"Mcp-Param-Region": {"us-west1"}, key: values}
	}
	raw := func(meta string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":` + meta + `}}`
	}
	list := http.Header{mcp.HeaderMethod: {mcp.MethodToolsList}, mcp.HeaderVersion: {mcp.V2026_07_28}}
	unsupported := http.Header{mcp.HeaderMethod: {mcp.MethodToolsList}, mcp.HeaderVersion: {"2027-01-01"}}
	const version = `"` + mcp.MetaVersion + `":"2026-07-28"`
	cases := []bad{
		{name: "no revision in the header", header: with(mcp.HeaderVersion), code: mcp.CodeHeaderMismatch},
		{name: "an empty revision in the header", header: with(mcp.HeaderVersion, ""), code: mcp.CodeHeaderMismatch},
		{name: "a legacy revision in the header", header: with(mcp.HeaderVersion, mcp.V2025_11_25), code: mcp.CodeHeaderMismatch},
		{name: "another revision in the header", header: with(mcp.HeaderVersion, "2027-01-01"), code: mcp.CodeHeaderMismatch},
		{name: "two revisions in headers", header: with(mcp.HeaderVersion, mcp.V2026_07_28, mcp.V2026_07_28), code: mcp.CodeHeaderMismatch},
		{name: "no method in the header", header: with(mcp.HeaderMethod), code: mcp.CodeHeaderMismatch},
		{name: "another method in the header", header: with(mcp.HeaderMethod, mcp.MethodToolsList), code: mcp.CodeHeaderMismatch},
		{name: "the method in capitals", header: with(mcp.HeaderMethod, "TOOLS/CALL"), code: mcp.CodeHeaderMismatch},
		{name: "two methods in headers", header: with(mcp.HeaderMethod, mcp.MethodToolsCall, mcp.MethodToolsCall), code: mcp.CodeHeaderMismatch},
		{name: "no name in the header", header: with(mcp.HeaderName), code: mcp.CodeHeaderMismatch},
		{name: "another name in the header", header: with(mcp.HeaderName, "test_simple_text"), code: mcp.CodeHeaderMismatch},
		{name: "two names in headers", header: with(mcp.HeaderName, "test_x_mcp_header", "test_x_mcp_header"), code: mcp.CodeHeaderMismatch},
		{name: "a name that must be encoded", header: with(mcp.HeaderName, "t\xc3\xa9st"), code: mcp.CodeHeaderMismatch},
		{name: "a name with bad padding", header: with(mcp.HeaderName, "=?base64?dGVzdF94X21jcF9oZWFkZXI?="), code: mcp.CodeHeaderMismatch},
		{name: "a name with a foreign alphabet", header: with(mcp.HeaderName, "=?base64?dGVzdF94X21jcF9oZWFkZXI_?="), code: mcp.CodeHeaderMismatch},
		{name: "another name, encoded", header: with(mcp.HeaderName, "=?base64?dGVzdA==?="), code: mcp.CodeHeaderMismatch},
		{name: "no argument in the header", header: with("Mcp-Param-Region"), code: mcp.CodeHeaderMismatch},
		{name: "another argument in the header", header: with("Mcp-Param-Region", "eu-north1"), code: mcp.CodeHeaderMismatch},
		{name: "the argument in capitals", header: with("Mcp-Param-Region", "US-WEST1"), code: mcp.CodeHeaderMismatch},
		{name: "two arguments in headers", header: with("Mcp-Param-Region", "us-west1", "us-west1"), code: mcp.CodeHeaderMismatch},
		{name: "an argument with bad padding", header: with("Mcp-Param-Region", "=?base64?dXMtd2VzdDE?="), code: mcp.CodeHeaderMismatch},
		{name: "a header without its argument", method: mcp.MethodToolsCall, params: `{"name":"test_x_mcp_header","arguments":{}}`, header: with("X-Other"), code: mcp.CodeHeaderMismatch},
		{name: "a header for null", method: mcp.MethodToolsCall, params: `{"name":"test_x_mcp_header","arguments":{"region":null}}`, header: with("X-Other"), code: mcp.CodeHeaderMismatch},

		{name: "no metadata", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, header: list, code: jsonrpc.CodeInvalidParams, id: "1"},
		{name: "a string as metadata", body: raw(`"x"`), header: list, code: jsonrpc.CodeInvalidParams, id: "1"},
		{name: "metadata without revision", body: raw(`{"` + mcp.MetaCapabilities + `":{}}`), header: list, code: jsonrpc.CodeInvalidParams, id: "1"},
		{name: "metadata without capabilities", body: raw(`{` + version + `}`), header: list, code: jsonrpc.CodeInvalidParams, id: "1"},
		{name: "an array of capabilities", body: raw(`{` + version + `,"` + mcp.MetaCapabilities + `":[]}`), header: list, code: jsonrpc.CodeInvalidParams, id: "1"},
		{name: "a number as revision", body: raw(`{"` + mcp.MetaVersion + `":20260728,"` + mcp.MetaCapabilities + `":{}}`), header: list, code: mcp.CodeHeaderMismatch, id: "1"},
		{name: "a revision that is not served", body: raw(`{"` + mcp.MetaVersion + `":"2027-01-01","` + mcp.MetaCapabilities + `":{}}`), header: unsupported, code: mcp.CodeUnsupportedVersion, id: "1"},
	}
	for i := range cases {
		if cases[i].method == "" && cases[i].body == "" {
			cases[i].method, cases[i].params = mcp.MethodToolsCall, region
		}
		cases[i].status = badRequest
	}
	c := s.modern(0, "")
	c.refuses(cases)
	a := (bad{body: raw(`{"` + mcp.MetaVersion + `":"2027-01-01","` + mcp.MetaCapabilities + `":{}}`), header: unsupported}).send(c)
	data := jsonrpc.Get(a.answer().Error, "data")
	if string(data) != `{"requested":"2027-01-01","supported":["2026-07-28"]}` {
		t.Errorf("a revision that is not served has the data %s", data)
	}
	for name, header := range map[string]http.Header{
		"plain":                     with("X-Other"),
		"encoded":                   with("Mcp-Param-Region", "=?base64?dXMtd2VzdDE=?="),
		"an encoded name":           with(mcp.HeaderName, "=?base64?dGVzdF94X21jcF9oZWFkZXI=?="),
		"a header that nobody asks": with("Mcp-Param-Other", "x"),
		"a session and an event":    {"Mcp-Param-Region": {"us-west1"}, mcp.HeaderSession: {"nonsense"}, mcp.HeaderLastEvent: {"nonsense"}},
	} {
		if a := (bad{method: mcp.MethodToolsCall, params: region, header: header}).send(c); a.status != ok || a.text() != "Region: us-west1" {
			t.Errorf("%s: answered %d %s", name, a.status, a.body)
		}
	}
	b.check()
}

// A request whose id is under way in its session is refused, and the one before goes on; ids of other sessions and
// of other types are others.
func TestAnIDIsGoodForOneRequestAtATime(t *testing.T) {
	s := newSite(t, options{servers: dual(t), gateways: 2})
	c := s.legacy(0, "", mcp.V2025_11_25)
	first := c.begin("7", mcp.MethodToolsCall, `{"name":"test_elicitation","arguments":{"message":"?"}}`)
	question := first.until(mcp.MethodElicit)
	for gateway := range s.gateways {
		for _, method := range []string{mcp.MethodToolsCall, mcp.MethodSetLevel} {
			a := c.at(gateway).call("7", method, `{"name":"test_simple_text","level":"info"}`)
			if a.status != ok || a.code() != jsonrpc.CodeInvalidRequest {
				t.Errorf("%s with an id under way was answered %d %s", method, a.status, a.body)
			}
		}
	}
	if got := c.tool(`"7"`, "test_simple_text", "{}").code(); got != 0 {
		t.Errorf("the id as a string gave %d", got)
	}
	if got := s.legacy(1, "", mcp.V2025_11_25).tool("7", "test_simple_text", "{}").code(); got != 0 {
		t.Errorf("the id in another session gave %d", got)
	}
	c.respond(question.ID, `{"action":"decline"}`)
	if m := first.answer(); !strings.Contains(string(m.Result), "decline") {
		t.Errorf("the first request was answered %s%s", m.Result, m.Error)
	}
	if got := c.tool("7", "test_simple_text", "{}").code(); got != 0 {
		t.Errorf("an id that is free again gave %d", got)
	}
}

// A body beyond the limit is refused, announced or not, and before it came.
func TestBodiesAreBounded(t *testing.T) {
	const limit = 64 << 10
	s := newSite(t, options{servers: dual(t), maxBody: limit})
	b := newBystander(t, s)
	for version, c := range s.eras(t, 0) {
		t.Run(version, func(t *testing.T) {
			c.t = t
			params := c.params("")
			message := func(size int) []byte {
				m := jsonrpc.Request(json.RawMessage("1"), mcp.MethodToolsList, params)
				return append(m, bytes.Repeat([]byte{' '}, size-len(m))...)
			}
			for _, x := range []struct{ size, status int }{{limit, ok}, {limit + 1, http.StatusRequestEntityTooLarge}, {20 * limit, http.StatusRequestEntityTooLarge}} {
				for name, body := range map[string]io.Reader{
					"announced": bytes.NewReader(message(x.size)),
					"chunked":   io.MultiReader(bytes.NewReader(message(x.size))),
				} {
					a := c.read(c.request(t.Context(), http.MethodPost, c.headers(mcp.MethodToolsList, params), body))
					if a.status != x.status {
						t.Errorf("%d bytes, %s: answered %d, want %d", x.size, name, a.status, x.status)
					}
				}
			}
		})
	}
	conn := s.dialRaw(t)
	_, err := fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n{")
	must(t, err)
	head := make([]byte, 12)
	_, err = io.ReadFull(conn, head)
	if err != nil || string(head) != "HTTP/1.1 413" {
		t.Errorf("a body that is announced too large was answered %q, %v", head, err)
	}
	b.check()
}

func (s *site) dialRaw(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.gateways[0].url, "http://"), "/mcp"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// A client that announces much and sends little takes little.
func TestAnnouncedBytesTakeNoMemory(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	const clients, announced = 50, 16 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range clients {
		conn := s.dialRaw(t)
		_, err := fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{\"jsonrpc\":", announced)
		must(t, err)
	}
	testkit.Eventually(t, func() bool { return s.gateways[0].http.Connections() == clients }, patience)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > clients<<18 {
		t.Errorf("%d clients that announced %d bytes each and sent 11 took %d bytes", clients, announced, grown)
	}
}

// What is made to be hard to read costs no more than its size asks for.
func TestHostileBodiesCostWhatTheyWeigh(t *testing.T) {
	s := newSite(t, options{servers: dual(t)})
	b := newBystander(t, s)
	const size = 256 << 10
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no_such",` + params + `}}`
	}
	var list strings.Builder
	for i := range size / 16 {
		fmt.Fprintf(&list, `"member%d":0,`, i)
	}
	members := list.String()
	bodies := map[string]string{
		"brackets":           strings.Repeat("[", size),
		"closed brackets":    call(`"x":[` + strings.Repeat("[],", size/3) + `0]`),
		"backslashes":        call(`"x":"` + strings.Repeat(`\\`, size/2) + `"`),
		"escaped quotes":     call(`"x":"` + strings.Repeat(`\"`, size/2) + `"`),
		"quotes":             strings.Repeat(`"`, size),
		"members":            call(members + `"x":0`),
		"members of members": call(`"_meta":{` + members + `"x":0},"ref":{` + members + `"x":0}`),
		"escaped names":      call(strings.Repeat(`"\u0061":0,`, size/11) + `"x":0`),
		"digits":             call(`"x":` + strings.Repeat("9", size)),
		"a number as id":     `{"jsonrpc":"2.0","method":"ping","id":` + strings.Repeat("9", size) + `}`,
	}
	for version, c := range s.eras(t, 0) {
		if version != mcp.V2025_11_25 && !mcp.IsModern(version) {
			continue
		}
		for name, body := range bodies {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			a := c.send(c.headers(mcp.MethodToolsCall, json.RawMessage(`{"name":"no_such"}`)), body)
			runtime.ReadMemStats(&after)
			if a.status >= 500 {
				t.Errorf("%s, %s: answered %d", version, name, a.status)
			}
			if took, grown := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > 5*time.Second || grown > 64*size {
				t.Errorf("%s, %s: %d bytes took %v and %d bytes", version, name, len(body), took, grown)
			}
		}
	}
	b.check()
}

// bystander is clients that go about their business while others misbehave.
type bystander struct {
	t        *testing.T
	s        *site
	legacy   *client
	call     *stream // waits for an answer of its client
	question jsonrpc.Message
	standing *stream
	modern   *stream // listens
}

func newBystander(t *testing.T, s *site) *bystander {
	t.Helper()
	b := &bystander{t: t, s: s, legacy: s.legacy(0, "", mcp.V2025_11_25)}
	mustAnswer(t, b.legacy.call("1", mcp.MethodSetLevel, `{"level":"debug"}`))
	mustAnswer(t, b.legacy.call("2", mcp.MethodSubscribe, `{"uri":"test://watched-resource"}`))
	b.standing = b.legacy.listen("")
	b.call = b.legacy.begin("1", mcp.MethodToolsCall, `{"name":"test_elicitation","arguments":{"message":"?"}}`)
	b.question = b.call.until(mcp.MethodElicit)
	b.modern = s.modern(0, "").begin("1", mcp.MethodListen, `{"notifications":{"toolsListChanged":true}}`)
	b.modern.until(mcp.MethodAcknowledged)
	return b
}

func mustAnswer(t *testing.T, a heard) {
	t.Helper()
	if a.status != ok || a.code() != 0 {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
}

// check has someone else try to meddle, and then finishes what was begun.
func (b *bystander) check() {
	b.t.Helper()
	stranger := b.s.legacy(0, "", mcp.V2025_11_25)
	stranger.t = b.t
	stranger.respond(b.question.ID, `{"action":"accept","content":{"username":"stranger","email":"x"}}`)
	stranger.notify(mcp.MethodCancelled, `{"requestId":1}`)
	stranger.call("1", mcp.MethodUnsubscribe, `{"uri":"test://watched-resource"}`)
	stranger.call("2", mcp.MethodSetLevel, `{"level":"emergency"}`)

	if got := len(b.legacy.tool("3", "test_tool_with_logging", "{}").notes(mcp.MethodMessage)); got != 3 {
		b.t.Errorf("the bystander got %d log messages, want 3", got)
	}
	b.legacy.tool("4", "test_trigger_resource_change", "{}")
	b.standing.until(mcp.MethodResourceUpdated)
	b.legacy.tool("5", "test_trigger_tool_change", "{}")
	b.s.refresh()
	b.standing.until(mcp.MethodToolsChanged)
	b.modern.until(mcp.MethodToolsChanged)
	if a := b.legacy.respond(b.question.ID, `{"action":"accept","content":{"username":"bystander","email":"x"}}`); a.status != http.StatusAccepted {
		b.t.Errorf("the bystander's answer was answered %d", a.status)
	}
	if got := text(b.call.answer().Result); !strings.Contains(got, "bystander") {
		b.t.Errorf("the bystander's call gave %q", got)
	}
}
