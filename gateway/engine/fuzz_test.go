package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/seal"
)

// mirroring is a tool that mirrors an argument of each type.
func mirroring(t testing.TB) *catalog.Entry {
	const tool = `{"name":"tool","inputSchema":{"type":"object","properties":{
		"s":{"type":"string","x-mcp-header":"S"},"n":{"type":"integer","x-mcp-header":"N"},"b":{"type":"boolean","x-mcp-header":"B"}}}}`
	now := catalog.New().Apply(&registryv1.WatchCatalogResponse{Version: 1, Servers: []*registryv1.CatalogServer{{
		Server: &registryv1.Server{Name: "server", Prefix: new(string)},
		Offer:  &registryv1.Offer{Tools: []*registryv1.Item{{Key: "tool", Json: []byte(tool)}}},
		State:  registryv1.ServerState_SERVER_STATE_READY,
	}}})
	view, ok := now.View("")
	if !ok || view.Find(catalog.Tools, "tool") == nil {
		t.Fatal("the tool is not in the catalogue")
	}
	return view.Find(catalog.Tools, "tool")
}

// meaning is what a header's value stands for, or false where it is malformed. It is written apart from decodeHeader.
func meaning(value string) (string, bool) {
	value = strings.Trim(value, " \t")
	if len(value) < len("=?base64?"+"?=") || value[:9] != "=?base64?" || value[len(value)-2:] != "?=" {
		return value, true
	}
	plain, err := base64.StdEncoding.DecodeString(value[9 : len(value)-2])
	return string(plain), err == nil && base64.StdEncoding.EncodeToString(plain) == value[9:len(value)-2]
}

// FuzzHeaders: headers that are taken say what the body says, and those that a client makes by the rules are taken.
func FuzzHeaders(f *testing.F) {
	f.Add("tools/call", "tool", "tools/call", "tool", "x", []byte(`{"s":"x","n":7,"b":true}`))
	f.Add("tools/call", "=?base64?dG9vbA==?=", "tools/call", "tool", "=?base64?w6k=?=", []byte(`{"s":"\u00e9"}`))
	f.Add("resources/read", " a:b\t", "resources/read", "a:b", "7.00", []byte(`{"n":7}`))
	f.Add("tools/call", "=?base64?", "tools/call", "=?base64?", "1e3", []byte(`{"n":1e3,"s":null}`))
	f.Add("prompts/get", "=?base64??=", "prompts/get", "", "true", []byte(`{"b":{"x":[1]}}`))
	f.Add("tools/call", "=?base64?=", "tools/call", "=?base64?=", "1000000000000000000000", []byte(`{"n":1000000000000000000000}`))
	f.Add("tools/call", "tool\r\n", "tools/list", "tool", "\x00", []byte(`{"s":"\u0000"}`))
	tool := mirroring(f)
	f.Fuzz(func(t *testing.T, methodHeader, nameHeader, method, name, value string, arguments []byte) {
		if !utf8.ValidString(name) || !utf8.ValidString(method) || jsonrpc.Check(arguments) != nil {
			return
		}
		arguments = []byte(strings.TrimSpace(string(arguments)))
		var params jsonrpc.Object
		params.Set("name", jsonrpc.String(name))
		params.Set("uri", jsonrpc.String(name))
		params.Set("taskId", jsonrpc.String(name))
		params.Set("arguments", arguments)
		m := &jsonrpc.Message{ID: json.RawMessage("1"), Method: method, Params: params.JSON()}

		h := http.Header{mcp.HeaderMethod: {methodHeader}, mcp.HeaderName: {nameHeader}}
		if checkHeaders(m, h) == nil {
			if strings.Trim(methodHeader, " \t") != method {
				t.Errorf("the method %q was taken for %q", methodHeader, method)
			}
			if said, ok := meaning(nameHeader); mcp.NamedBy(method) != "" && (!ok || said != name) {
				t.Errorf("the name %q was taken for %q", nameHeader, name)
			}
		}
		made := http.Header{mcp.HeaderMethod: {method}, mcp.HeaderName: {mcp.EncodeHeader(name)}}
		if plain := mcp.EncodeHeader(method) == method; plain && checkHeaders(m, made) != nil {
			t.Errorf("%q was refused for %q", made, m.Params)
		}

		for key, header := range map[string]string{"s": "Mcp-Param-S", "n": "Mcp-Param-N", "b": "Mcp-Param-B"} {
			argument := jsonrpc.Get(arguments, key)
			h := http.Header{}
			mcp.SetHeaderParams(h, tool.HeaderParams(), arguments)
			if r := checkParamHeaders(tool, arguments, h); r != nil {
				t.Errorf("%q was refused for %s: %v", h, arguments, r.err)
			}
			h[header] = []string{value}
			if checkParamHeaders(tool, arguments, h) != nil {
				continue
			}
			said, ok := meaning(value)
			switch want, isString := text(argument); {
			case !ok || argument == nil || string(argument) == "null":
				t.Errorf("%s: %q was taken for %s", header, value, argument)
			case isString && said != want, !isString && said != string(argument) && !equal(said, string(argument)):
				t.Errorf("%s: %q was taken for %s", header, value, argument)
			}
		}
	})
}

// equal compares numbers by value.
func equal(a, b string) bool {
	if len(a)+len(b) > 1000 || strings.ContainsAny(a+b, "eE/_xXpP") {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

func keys(t testing.TB) *seal.Keys {
	k, err := seal.New([]byte("kR7vQ2mXw9Lz4TnB8cYd3FhJ6sPa1GeU5oKi0VqN"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// onlyOne is owners who know one session.
type onlyOne struct {
	Owners
	t  *testing.T
	id string
}

func (o onlyOne) Facts(_ context.Context, id string) (*sessionv1.SessionFacts, error) {
	if id != o.id {
		o.t.Errorf("an id that was never given out was opened: %s", id)
		return nil, status.Error(codes.NotFound, "")
	}
	return &sessionv1.SessionFacts{SessionId: id, ProtocolVersion: mcp.V2025_11_25, View: "view", Principal: &sessionv1.Principal{Id: "alice"}}, nil
}

// FuzzSessionToken: a token that was not made here, or a single bit of one that was, finds no session.
func FuzzSessionToken(f *testing.F) {
	k := keys(f)
	id := uuid.MustParse("3f0c9d1e-6a52-4c0e-9a55-0d5f2f4a7b11")
	genuine := k.Seal(purposeSession, id[:], nil)
	f.Add("", "alice", "view", uint(0), byte(0))
	f.Add(id.String(), "bob", "view", uint(3), byte(1))
	f.Add(k.Seal(purposeState, id[:], nil), "alice", "view", uint(0), byte(0))
	f.Add(genuine[1:], "alice", "", uint(1<<20), byte(255))
	f.Fuzz(func(t *testing.T, token, principal, view string, at uint, bits byte) {
		e := New(Config{Sealer: k, Owners: onlyOne{t: t, id: id.String()}})
		someone := Client{Principal: access.Principal{ID: principal}, View: view}
		if _, err := e.Session(t.Context(), someone, genuine); err == nil != (principal == "alice" && view == "view") {
			t.Errorf("alice's session was given to %q at %q: %v", principal, view, err)
		}
		c := Client{Principal: access.Principal{ID: "alice"}, View: "view"}
		if _, err := e.Session(t.Context(), c, token); !errors.Is(err, ErrNoSession) {
			t.Errorf("%q: %v", token, err)
		}
		changed := []byte(genuine)
		changed[at%uint(len(changed))] ^= bits
		if _, err := e.Session(t.Context(), c, string(changed)); err == nil != (bits == 0) || err != nil && !errors.Is(err, ErrNoSession) {
			t.Errorf("%q: %v", changed, err)
		}
	})
}

// FuzzRequestState: a state is opened for the principal, server, method and params that it was made for, and for no
// others, and not once it was changed.
func FuzzRequestState(f *testing.F) {
	k := keys(f)
	f.Add("alice", "server", "tools/call", []byte(`{"name":"a","arguments":{"n":9007199254740993}}`), []byte(`{"name":"a","arguments":{"n":9007199254740992}}`), uint(0), byte(1))
	f.Add("alice", "server", "tools/call", []byte(`{"name":"a","_meta":{"x":1}}`), []byte(`{ "name":"\u0061","inputResponses":{},"requestState":"x"}`), uint(9), byte(0))
	f.Add("a", "b", "c", []byte(`{}`), []byte(`{"":null}`), uint(1<<20), byte(255))
	f.Add("", "", "", []byte(`{"a":[1,2]}`), []byte(`{"a":[2,1]}`), uint(7), byte(128))
	f.Fuzz(func(t *testing.T, principal, server, method string, params, other []byte, at uint, bits byte) {
		for _, p := range [][]byte{params, other} {
			if jsonrpc.Check(p) != nil || p[0] != '{' {
				return
			}
		}
		e := New(Config{Sealer: k})
		now := time.Unix(1_800_000_000, 0)
		mine := stateBinding{principal, server, method, params}
		token := e.sealState(state{Address: "owner:1", Waiting: "call"}, mine, now)
		if s, err := e.openState(token, mine, now.Add(e.config.InputWait)); err != nil || s.Waiting != "call" || s.Address != "owner:1" {
			t.Fatalf("a genuine state gave %+v, %v", s, err)
		}
		if _, err := e.openState(token, mine, now.Add(e.config.InputWait+time.Second)); !errors.Is(err, errStateExpired) {
			t.Errorf("an expired state gave %v", err)
		}
		for _, foreign := range []stateBinding{
			{principal + "x", server, method, params}, {principal, server + "x", method, params}, {principal, server, method + "x", params},
			{principal + server, "", method, params}, {server, principal, method, params},
		} {
			same := foreign.principal == principal && foreign.server == server && foreign.method == method
			if _, err := e.openState(token, foreign, now); !same && utf8.ValidString(principal+server+method) && !errors.Is(err, errStateForged) {
				t.Errorf("for %q the state of %q gave %v", foreign, mine, err)
			}
		}
		if _, err := e.openState(token, stateBinding{principal, server, method, other}, now); err == nil != says(t, params, other) {
			t.Errorf("for the params %s the state of %s gave %v", other, params, err)
		}
		changed := []byte(token)
		changed[at%uint(len(changed))] ^= bits
		if _, err := e.openState(string(changed), mine, now); err == nil != (bits == 0) {
			t.Errorf("a changed state gave %v", err)
		}
		if _, err := e.Session(t.Context(), Client{}, token); !errors.Is(err, ErrNoSession) {
			t.Errorf("as a session's id it gave %v", err)
		}
	})
}

// says reports whether two objects say the same, but for what differs between rounds. Numbers are the same where they
// are written the same.
func says(t *testing.T, a, b []byte) bool {
	var written [2]string
	for i, data := range [][]byte{a, b} {
		var members map[string]any
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		if err := d.Decode(&members); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"_meta", "inputResponses", "requestState"} {
			delete(members, key)
		}
		all, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		written[i] = string(all)
	}
	return written[0] == written[1]
}
