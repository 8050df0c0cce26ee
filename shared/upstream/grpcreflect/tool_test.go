package grpcreflect_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

// validator makes a JSON Schema ready to validate with.
func validator(t testing.TB, raw json.RawMessage) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("no schema: %v: %s", err, raw)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatalf("the schema does not hold together: %v: %s", err, raw)
	}
	return resolved
}

func valid(t testing.TB, schema, value json.RawMessage) error {
	t.Helper()
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		t.Fatal(err)
	}
	return validator(t, schema).Validate(v)
}

func TestMethodsBecomeTools(t *testing.T) {
	p := serve(t, kitchen, kitchenHandlers)
	tools := describe(t, p)
	want := []string{"Echo", "EchoAny", "EchoName", "EchoStruct", "EchoTree", "Nothing", "Ruled", "Stream", "StreamNames"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(tools))); diff != "" {
		t.Errorf("methods whose client streams are left out (-want +got):\n%s", diff)
	}
	offer, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(offer.GetEras()) != 0 || string(offer.GetCapabilities()) != `{"tools":{}}` {
		t.Errorf("eras %v, capabilities %s", offer.GetEras(), offer.GetCapabilities())
	}
	if got := offer.GetInstructions(); got != "Cooks whatever it is given.\n\nKindly." {
		t.Errorf("instructions %q", got)
	}
	if name, _ := jsonrpc.GetString(offer.GetServerInfo(), "name"); name != "kitchen.v1.Kitchen" {
		t.Errorf("server_info %s", offer.GetServerInfo())
	}
	if !slices.IsSortedFunc(offer.GetTools(), func(a, b *registryv1.Item) int { return strings.Compare(a.GetKey(), b.GetKey()) }) {
		t.Error("the tools are in no order")
	}
}

func TestDescriptionsComeFromComments(t *testing.T) {
	tools := describe(t, serve(t, kitchen, kitchenHandlers))
	if got := tools["Echo"].Description; got != "Gives back what it gets." {
		t.Errorf("Echo: %q", got)
	}
	if got := tools["EchoTree"].Description; got != "Calls the gRPC method kitchen.v1.Kitchen.EchoTree." {
		t.Errorf("without a comment: %q", got)
	}
	if got := tools["EchoTree"].Title; got != "Echo tree" {
		t.Errorf("title %q", got)
	}
	if got := tools["Ruled"].Description; !strings.HasSuffix(got, "Deprecated.") {
		t.Errorf("deprecated: %q", got)
	}
	for path, want := range map[string]string{
		"i32": "Thirty-two bits.", "text": "Said behind it.", "none": "Neither way. At most one of left, right, none.", "heat": "HEAT_LOW: Barely.",
	} {
		if got, _ := jsonrpc.GetString(tools["Echo"].InputSchema, "properties", path, "description"); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestAnnotationsComeFromIdempotencyLevels(t *testing.T) {
	tools := describe(t, serve(t, kitchen, kitchenHandlers))
	for name, want := range map[string]string{
		"Echo": "", "EchoTree": `{"readOnlyHint":true,"idempotentHint":true}`, "EchoName": `{"idempotentHint":true}`,
	} {
		if got := string(tools[name].Annotations); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestSchemasTakeWhatTheMethodTakes(t *testing.T) {
	p := serve(t, kitchen, kitchenHandlers)
	tools := describe(t, p)
	for _, c := range []struct{ tool, arguments string }{
		{"Echo", `{}`},
		{"Echo", `{"i32":-1,"i64":"9007199254740993","u32":1,"u64":"18446744073709551615","s32":-3,"s64":-4,"f32":5,"f64":6,"sf64":"-7"}`},
		{"Echo", `{"i64":12,"smallFloat":1.5,"big":1e300,"yes":true,"text":"é\n\"","raw":"AAEC","heat":"HEAT_LOW","maybe":0,"many":["1",2]}`},
		{"Echo", `{"heats":{"a":"HEAT_HIGH"},"leaves":{"-3":{"name":"x","weight":"7"}},"byBool":{"true":"y"},"left":"l"}`},
		{"Echo", `{"right":{"name":"r"},"leaf":{"weight":3},"at":"2026-01-02T03:04:05.000000006Z","takes":"1.5s","form":{"a":[1,null]}}`},
		{"Echo", `{"anyJson":[1],"list":[1,"x"],"any":{"@type":"type.googleapis.com/kitchen.v1.Leaf","name":"held"},"mask":"a,bC","wrapped":"5"}`},
		{"Echo", `{"wrappedRaw":"AA==","nothing":null,"more":[{"name":"m"}],"odd-name":"o","wrappedDouble":2.5,"once":{"inner":{"heats":["HEAT_LOW"]}}}`},
		{"EchoTree", `{"name":"a","children":[{"name":"b","children":[{}]}],"branch":{"tree":{"branch":{}},"branches":{"x":{"branches":{}}}}}`},
		{"EchoName", `{"value":"n"}`},
		{"EchoAny", `{"value":[1,{"a":null}]}`},
		{"EchoStruct", `{"anything":{"goes":1}}`},
		{"Nothing", `{}`},
		{"Stream", `{"children":[{}]}`},
		{"StreamNames", `{"value":"s"}`},
		{"Ruled", `{"id":"abc","age":3,"tags":["x"],"shares":{"a":0.75},"mail":"a@b.example","kind":"a","owner":"me","one":"1"}`},
	} {
		if err := valid(t, tools[c.tool].InputSchema, json.RawMessage(c.arguments)); err != nil {
			t.Errorf("%s: the schema refuses %s: %v", c.tool, c.arguments, err)
		}
		r := call(t, p, c.tool, c.arguments)
		if r.IsError {
			t.Errorf("%s(%s): %s", c.tool, c.arguments, r.text())
			continue
		}
		if err := valid(t, tools[c.tool].OutputSchema, r.Structured); err != nil {
			t.Errorf("%s: the schema refuses its own answer %s: %v\n%s", c.tool, r.Structured, err, tools[c.tool].OutputSchema)
		}
	}
}

func TestSchemasRefuseWhatTheMethodRefuses(t *testing.T) {
	p := serve(t, kitchen, kitchenHandlers)
	tools := describe(t, p)
	for _, c := range []struct{ tool, arguments, says string }{
		{"Echo", `{"i33":1}`, `"i33" is unknown; there are i32, i64`},
		{"Echo", `{"i32":"x"}`, `"i32" must be an integer of 32 bits`},
		{"Echo", `{"i32":3000000000}`, `"i32" must be`},
		{"Echo", `{"u64":-1}`, `"u64" must be an integer of 64 bits, not negative`},
		{"Echo", `{"heat":"HEAT_WHITE"}`, `"heat" must be one of HEAT_UNSPECIFIED, HEAT_LOW, HEAT_HIGH`},
		{"Echo", `{"leaf":{"nam":"x"}}`, `"leaf.nam" is unknown; there are name, weight`},
		{"Echo", `{"more":[{"name":"a"},{"name":7}]}`, `"more[1].name" must be a string`},
		{"Echo", `{"leaves":{"1":{"weight":"x"}}}`, `"leaves.1.weight" must be`},
		{"Echo", `{"left":"a","right":{}}`, "oneof"},
		{"Echo", `{"many":7}`, `"many" must be an array`},
		{"Echo", `{"yes":"true"}`, `"yes" must be true or false`},
		{"Echo", `{"leaf":[]}`, `"leaf" must be an object`},
		{"Echo", `{"once":{"inner":{"heats":["HOT"]}}}`, `"once.inner.heats" must be an array, each element one of`},
		{"Echo", `{"takes":5}`, `"takes" must be seconds such as "1.5s"`},
		{"EchoTree", `{"branch":{"tree":{"children":[{"title":"x"}]}}}`, `"branch.tree.children[0].title" is unknown`},
		{"EchoName", `{"name":"x"}`, `"name" is unknown; there is only "value"`},
		{"EchoName", `{"value":7}`, "7"},
		{"Nothing", `{"x":1}`, `"x"`},
	} {
		if valid(t, tools[c.tool].InputSchema, json.RawMessage(c.arguments)) == nil {
			t.Errorf("%s: the schema takes %s", c.tool, c.arguments)
		}
		r := call(t, p, c.tool, c.arguments)
		if !r.IsError || !strings.Contains(r.text(), c.says) {
			t.Errorf("%s(%s): error %v, %q; want it to say %s", c.tool, c.arguments, r.IsError, r.text(), c.says)
		}
		if strings.ContainsAny(r.text(), "\u00a0") || strings.Contains(r.text(), "proto:") {
			t.Errorf("the text differs from build to build: %q", r.text())
		}
	}
}

func TestRulesNarrowArguments(t *testing.T) {
	ruled := describe(t, serve(t, kitchen, kitchenHandlers))["Ruled"]
	const good = `{"id":"abc","owner":"me"}`
	if err := valid(t, ruled.InputSchema, json.RawMessage(good)); err != nil {
		t.Errorf("refuses %s: %v", good, err)
	}
	for member, value := range map[string]string{
		"id": `"a"`, "age": `130`, "tags": `["x","x"]`, "shares": `{"a":0.5}`, "kind": `"c"`,
	} {
		bad := jsonrpc.With(json.RawMessage(good), json.RawMessage(value), member)
		if valid(t, ruled.InputSchema, bad) == nil {
			t.Errorf("takes %s", bad)
		}
	}
	for _, missing := range []string{"id", "owner"} {
		if bad := jsonrpc.Without(json.RawMessage(good), missing); valid(t, ruled.InputSchema, bad) == nil {
			t.Errorf("takes %s", bad)
		}
	}
	for path, want := range map[string]string{
		"mail":    `{"type":"string","format":"email"}`,
		"etag":    `{"type":"string","deprecated":true,"readOnly":true}`,
		"outside": `{"type":"integer","minimum":-2147483648,"maximum":2147483647}`,
		"folded":  `{"type":"string"}`, // no JSON Schema has that pattern
		"skipped": `{"type":"string"}`,
		"one":     `{"type":"string","description":"Exactly one of one, two."}`,
	} {
		if got := string(jsonrpc.Get(ruled.InputSchema, "properties", path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if both := jsonrpc.With(jsonrpc.With(json.RawMessage(good), []byte(`"1"`), "one"), []byte(`"2"`), "two"); valid(t, ruled.InputSchema, both) == nil {
		t.Error("takes both members of a oneof")
	}
}

func TestNoSchemaHasACombinationAtItsTop(t *testing.T) {
	for name, tool := range describe(t, serve(t, kitchen, kitchenHandlers)) {
		for _, schema := range []json.RawMessage{tool.InputSchema, tool.OutputSchema} {
			if kind, _ := jsonrpc.GetString(schema, "type"); kind != "object" {
				t.Errorf("%s: type %q", name, kind)
			}
			for _, keyword := range []string{"anyOf", "oneOf", "allOf", "not", "$ref"} {
				if jsonrpc.Get(schema, keyword) != nil {
					t.Errorf("%s: has %s at the top", name, keyword)
				}
			}
		}
	}
}

func TestOffersAreEqualEachTime(t *testing.T) {
	s := newService(t, kitchen, kitchenHandlers)
	target, _ := s.start(t)
	first, err := open(t, grpcreflect.Config{Target: target}).Describe(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	second, err := open(t, grpcreflect.Config{Target: target}).Describe(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.GetTools() {
		if diff := cmp.Diff(string(first.GetTools()[i].GetJson()), string(second.GetTools()[i].GetJson())); diff != "" {
			t.Error(diff)
		}
	}
	if string(first.GetServerInfo()) != string(second.GetServerInfo()) {
		t.Errorf("%s, %s", first.GetServerInfo(), second.GetServerInfo())
	}
}

func TestMethodsOfOneNameAreToldApart(t *testing.T) {
	s := &service{files: compile(t, map[string]string{
		"a.proto": `syntax = "proto3"; package a; message M {} service One { rpc Get(M) returns (M); rpc Only(M) returns (M); rpc Two_Get(M) returns (M); }`,
		"b.proto": `syntax = "proto3"; package b; message M {} service Two { rpc Get(M) returns (M); rpc List(M) returns (M); }`,
		"c.proto": `syntax = "proto3"; package c; message M {} service Two { rpc List(M) returns (M);
			rpc AVeryLongNameOfAMethodThatNoClientWouldTakeAsTheNameOfAToolAtAllEver(M) returns (M); }`,
	})}
	target, _ := s.start(t)
	want := []string{
		"AVeryLongNameOfAMethodThatNoClientWouldTakeAsTheNameOfA_f775a940", "One_Get", "Only", "Two_Get", "b.Two.Get", "b.Two.List", "c.Two.List",
	}
	got := slices.Sorted(maps.Keys(describe(t, open(t, grpcreflect.Config{Target: target}))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r := call(t, open(t, grpcreflect.Config{Target: target}), "b.Two.Get", `{}`); !strings.Contains(r.text(), "UNIMPLEMENTED: the test has no handler") {
		t.Errorf("%q", r.text())
	}
}

func TestOnlyConfiguredServicesAreOffered(t *testing.T) {
	s := &service{files: compile(t, map[string]string{
		"a.proto": `syntax = "proto3"; package a; message M {} service One { rpc Get(M) returns (M); } service Other { rpc Get(M) returns (M); }`,
	})}
	target, _ := s.start(t)
	if got := describe(t, open(t, grpcreflect.Config{Target: target, Services: []string{"a.Other"}})); len(got) != 1 || got["Get"].Name == "" {
		t.Errorf("%v", got)
	}
	_, err := open(t, grpcreflect.Config{Target: target, Services: []string{"a.Missing"}}).Describe(t.Context())
	if err == nil || !strings.Contains(err.Error(), `no service "a.Missing"`) || !strings.Contains(err.Error(), "a.One") {
		t.Errorf("%v", err)
	}
}
