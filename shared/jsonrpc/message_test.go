package jsonrpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"erlmcp.dev/shared/jsonrpc"
)

func TestParseReadsTheEnvelopeAndKeepsTheBytes(t *testing.T) {
	cases := []struct {
		name, in string
		want     jsonrpc.Message
	}{
		{"request", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"n":12345678901234567890.0}}`,
			jsonrpc.Message{ID: raw("7"), Method: "tools/call", Params: raw(`{"n":12345678901234567890.0}`)}},
		{"spaced and in another order", " {\n \"method\" : \"ping\" , \"id\":\"a\\\"b\", \"jsonrpc\":\"2.0\"}\r\n",
			jsonrpc.Message{ID: raw(`"a\"b"`), Method: "ping"}},
		{"big id", `{"jsonrpc":"2.0","id":9007199254740993123,"method":"ping"}`,
			jsonrpc.Message{ID: raw("9007199254740993123"), Method: "ping"}},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			jsonrpc.Message{Method: "notifications/initialized"}},
		{"escaped key", `{"jsonrpc":"2.0","\u0069d":1,"method":"ping"}`,
			jsonrpc.Message{ID: raw("1"), Method: "ping"}},
		{"arguments are the server's own", `{"jsonrpc":"2.0","method":"a","params":{"name":"x","arguments":{"name":1,"name":2},"ref":""}}`,
			jsonrpc.Message{Method: "a", Params: raw(`{"name":"x","arguments":{"name":1,"name":2},"ref":""}`)}},
		{"result", `{"jsonrpc":"2.0","id":1,"result":{"x":[1, 2]}}`,
			jsonrpc.Message{ID: raw("1"), Result: raw(`{"x":[1, 2]}`)}},
		{"error without an id", `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}`,
			jsonrpc.Message{Error: raw(`{"code":1,"message":"m"}`)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := jsonrpc.Parse([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.ID) != string(c.want.ID) || got.Method != c.want.Method || string(got.Params) != string(c.want.Params) ||
				string(got.Result) != string(c.want.Result) || string(got.Error) != string(c.want.Error) {
				t.Errorf("got %+q, want %+q", got, c.want)
			}
		})
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestParseRefusesWhatIsNoMessage(t *testing.T) {
	deep := strings.Repeat("[", jsonrpc.MaxDepth+1) + strings.Repeat("]", jsonrpc.MaxDepth+1)
	many := ""
	for i := range 100 {
		many += fmt.Sprintf(`"k%d":%d,`, i, i)
	}
	cases := []struct {
		name, in string
		want     error
	}{
		{"nothing", "", jsonrpc.ErrSyntax},
		{"space", " \n", jsonrpc.ErrSyntax},
		{"cut off", `{"jsonrpc":"2.0","id":1`, jsonrpc.ErrSyntax},
		{"two values", `{"jsonrpc":"2.0","id":1,"method":"a"}{}`, jsonrpc.ErrSyntax},
		{"no UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", jsonrpc.ErrSyntax},
		{"too deep", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":` + deep + `}}`, jsonrpc.ErrSyntax},
		{"array", `[{"jsonrpc":"2.0","id":1,"method":"a"}]`, jsonrpc.ErrBatch},
		{"number", `1`, jsonrpc.ErrShape},
		{"other version", `{"jsonrpc":"1.0","id":1,"method":"a"}`, jsonrpc.ErrShape},
		{"method is a number", `{"jsonrpc":"2.0","id":1,"method":5}`, jsonrpc.ErrShape},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"a"}`, jsonrpc.ErrShape},
		{"fractional id", `{"jsonrpc":"2.0","id":1.5,"method":"a"}`, jsonrpc.ErrShape},
		{"exponent id", `{"jsonrpc":"2.0","id":1e3,"method":"a"}`, jsonrpc.ErrShape},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"a"}`, jsonrpc.ErrShape},
		{"params are an array", `{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}`, jsonrpc.ErrShape},
		{"id twice", `{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}`, jsonrpc.ErrShape},
		{"method twice, once escaped", `{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}`, jsonrpc.ErrShape},
		{"name twice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"x","arguments":{},"n\u0061me":"y"}}`, jsonrpc.ErrShape},
		{"metadata twice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{},"_meta":{}}}`, jsonrpc.ErrShape},
		{"a member of the metadata twice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"a":1,"b":2,"a":1}}}`, jsonrpc.ErrShape},
		{"a member of the reference twice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"ref":{"name":"a","name":"b"}}}`, jsonrpc.ErrShape},
		{"one of many members twice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{` + many + `"k7":0}}`, jsonrpc.ErrShape},
		{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, jsonrpc.ErrShape},
		{"neither", `{"jsonrpc":"2.0","id":1}`, jsonrpc.ErrShape},
		{"result without an id", `{"jsonrpc":"2.0","result":{}}`, jsonrpc.ErrShape},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := jsonrpc.Parse([]byte(c.in)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseTellsTheIDOfAMalformedRequestThatHasOne(t *testing.T) {
	m, err := jsonrpc.Parse([]byte(`{"jsonrpc":"2.0","id":"x","method":5}`))
	if err == nil || string(m.ID) != `"x"` {
		t.Errorf("got id %s, error %v", m.ID, err)
	}
}

func TestBatch(t *testing.T) {
	if _, ok, _ := jsonrpc.Batch([]byte(`{"a":[1]}`)); ok {
		t.Error("an object is no batch")
	}
	if _, ok, err := jsonrpc.Batch([]byte(` []`)); !ok || !errors.Is(err, jsonrpc.ErrShape) {
		t.Error("an empty batch must be refused")
	}
	elements, ok, err := jsonrpc.Batch([]byte(` [ {"a":"]"} , 2,"x" ] `))
	if !ok || err != nil || len(elements) != 3 || string(elements[0]) != `{"a":"]"}` || string(elements[2]) != `"x"` {
		t.Errorf("got %q, %v", elements, err)
	}
}

func TestObjectChangesOneMemberAndLeavesTheOthers(t *testing.T) {
	in := `{"name":"a","arguments":{"n":1.00,"big":123456789012345678901234567890},"_meta":{"x":1}}`
	got := jsonrpc.With(raw(in), jsonrpc.String(`b"`), "name")
	want := `{"name":"b\"","arguments":{"n":1.00,"big":123456789012345678901234567890},"_meta":{"x":1}}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	if got := jsonrpc.With(nil, raw("1"), "a", "b"); string(got) != `{"a":{"b":1}}` {
		t.Errorf("got %s", got)
	}
	if got := jsonrpc.Without(raw(in), "_meta", "x"); !bytes.Contains(got, []byte(`"_meta":{}`)) {
		t.Errorf("got %s", got)
	}
}

// FuzzParse holds Parse against encoding/json: what it takes is JSON, and the parts it found are the members.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"\\\"}"}}`,
		`{"jsonrpc":"2.0","id":"\u00e9","result":[{}]}`, `[1]`, `{"a"`, "\"\\", `{"jsonrpc":"2.0","method":"m"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := jsonrpc.Parse(data)
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(data, &members); err != nil {
			t.Fatalf("took what encoding/json refuses: %v", err)
		}
		for key, part := range map[string]json.RawMessage{"params": m.Params, "result": m.Result, "error": m.Error} {
			if part != nil && string(members[key]) != string(part) {
				t.Errorf("%s is %q, encoding/json says %q", key, part, members[key])
			}
		}
		var encoded []byte
		switch {
		case m.IsResponse() && m.Error != nil:
			encoded = jsonrpc.ErrorResponse(m.ID, m.Error)
		case m.IsResponse():
			encoded = jsonrpc.Response(m.ID, m.Result)
		default:
			encoded = jsonrpc.Request(m.ID, m.Method, m.Params)
		}
		again, err := jsonrpc.Parse(encoded)
		if err != nil || again.Method != m.Method || string(again.ID) != string(m.ID) || string(again.Params) != string(m.Params) {
			t.Errorf("does not survive encoding: %q, %v", encoded, err)
		}
	})
}

// FuzzObject checks that splitting an object and joining it again changes nothing but space between members.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":[true,null,"}"]}}`))
	f.Add([]byte("{\"\\u0061\" :\t-1.5e3 , \"\\\\\":\"\\\\\" }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.TrimSpace(data)
		if jsonrpc.Check(data) != nil {
			return
		}
		o, ok := jsonrpc.ParseObject(data)
		if !ok {
			return
		}
		var want, got map[string]any
		if json.Unmarshal(data, &want) != nil {
			return
		}
		if err := json.Unmarshal(o.JSON(), &got); err != nil {
			t.Fatalf("%s: %v", o.JSON(), err)
		}
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if !bytes.Equal(a, b) {
			t.Errorf("%s became %s", a, b)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := []byte(`{"jsonrpc":"2.0","id":123,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` +
		strings.Repeat("x", 200) + `"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := jsonrpc.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzElements(f *testing.F) {
	for _, seed := range []string{`[1, {"a":[]} ,"]"]`, `{}`, `{"a":1}`, `"[1]"`, `[]`, `1`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.TrimSpace(data)
		if jsonrpc.Check(data) != nil {
			return
		}
		var want []json.RawMessage
		if json.Unmarshal(data, &want) != nil {
			want = nil // no array
		}
		var got []json.RawMessage
		jsonrpc.Elements(data, func(e []byte) bool { got = append(got, e); return len(got) <= len(data) })
		if len(got) != len(want) {
			t.Fatalf("%s has %d elements, not %d", data, len(want), len(got))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s: element %d is %s", data, i, got[i])
			}
		}
	})
}
