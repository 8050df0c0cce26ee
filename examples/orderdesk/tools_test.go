package orderdesk_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	"erlmcp.dev/examples/orderdesk"
	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

func open(t *testing.T, desk *orderdesk.Desk) *grpcreflect.Peer {
	t.Helper()
	p, err := grpcreflect.Open(t.Context(), grpcreflect.Config{Target: serve(t, desk)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func tools(t *testing.T, p *grpcreflect.Peer) map[string]json.RawMessage {
	t.Helper()
	offer, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(offer.GetInstructions(), "The order desk of a small shop") {
		t.Errorf("instructions %q", offer.GetInstructions())
	}
	all := map[string]json.RawMessage{}
	for _, item := range offer.GetTools() {
		all[item.GetKey()] = item.GetJson()
	}
	return all
}

// call calls a tool, checks arguments and result against its schemas, and returns the structured result and
// the text.
func call(t *testing.T, p *grpcreflect.Peer, all map[string]json.RawMessage, tool, arguments string) (structured json.RawMessage, text string) {
	t.Helper()
	validate(t, jsonrpc.Get(all[tool], "inputSchema"), json.RawMessage(arguments))
	reply, err := p.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":"` + tool + `","arguments":` + arguments + `}`)}, nil)
	if err != nil || reply.Error != nil {
		t.Fatalf("%s: %v, %s", tool, err, reply.Error)
	}
	var result struct {
		Content []struct{ Text string }
		IsError bool
	}
	if err := json.Unmarshal(reply.Result, &result); err != nil {
		t.Fatal(err)
	}
	if result.IsError {
		return nil, result.Content[0].Text
	}
	structured = jsonrpc.Get(reply.Result, "structuredContent")
	validate(t, jsonrpc.Get(all[tool], "outputSchema"), structured)
	return structured, result.Content[0].Text
}

func validate(t *testing.T, schema, value json.RawMessage) {
	t.Helper()
	var s jsonschema.Schema
	var v any
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(value, &v); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(v); err != nil {
		t.Errorf("%s: %v", value, err)
	}
}

func TestEveryMethodAndFieldIsDescribed(t *testing.T) {
	all := tools(t, open(t, orderdesk.New()))
	if len(all) != 6 {
		t.Errorf("%d tools", len(all))
	}
	for name, tool := range all {
		if text, _ := jsonrpc.GetString(tool, "description"); strings.HasPrefix(text, "Calls the gRPC method") {
			t.Errorf("%s has lost its comment", name)
		}
		for _, schema := range []string{"inputSchema", "outputSchema"} {
			described(t, name+" "+schema, jsonrpc.Get(tool, schema))
		}
	}
	if got := string(jsonrpc.Get(all["PlaceOrder"], "annotations")); got != "" {
		t.Errorf("PlaceOrder: %s", got)
	}
	if got := string(jsonrpc.Get(all["CancelOrder"], "annotations", "idempotentHint")); got != "true" {
		t.Errorf("CancelOrder: %s", got)
	}
	if got := string(jsonrpc.Get(all["WatchOrder"], "annotations", "readOnlyHint")); got != "true" {
		t.Errorf("WatchOrder: %s", got)
	}
}

// described fails the test where a property of a schema has no description.
func described(t *testing.T, at string, schema json.RawMessage) {
	t.Helper()
	o, ok := jsonrpc.ParseObject(schema)
	if !ok {
		return
	}
	for _, key := range o.Keys() {
		if key != "properties" {
			if key != "dependentSchemas" {
				described(t, at+"."+key, o.Get(key))
			}
			continue
		}
		properties, _ := jsonrpc.ParseObject(o.Get(key))
		for _, name := range properties.Keys() {
			if _, ok := jsonrpc.GetString(properties.Get(name), "description"); !ok && name != "messages" {
				t.Errorf("%s.%s has lost its comment", at, name)
			}
			described(t, at+"."+name, properties.Get(name))
		}
	}
}

func TestAnOrderFromStartToEndThroughTools(t *testing.T) {
	desk := orderdesk.New()
	desk.Step = 30 * time.Millisecond
	p := open(t, desk)
	all := tools(t, p)
	products, _ := call(t, p, all, "ListProducts", `{"search":"lighthouse"}`)
	if !strings.Contains(string(products), `"minorUnits":"9007199254740993"`) || !strings.Contains(string(products), `"stock":3`) {
		t.Errorf("%s", products)
	}
	placed, text := call(t, p, all, "PlaceOrder", `{"customer":"ada","lines":[{"sku":"lighthouse","quantity":3}],"shipTo":{"street":"Shore 1","town":"Rock","country":"SE"},"notes":{"lighthouse":"white"},"spendingLimit":27021597764222979}`)
	if total, _ := jsonrpc.GetString(placed, "order", "total", "minorUnits"); total != "27021597764222979" {
		t.Fatalf("a total of %q: %s", total, text)
	}
	id, _ := jsonrpc.GetString(placed, "order", "id")
	if _, text := call(t, p, all, "PlaceOrder", `{"customer":"bob","lines":[{"sku":"lighthouse","quantity":1}],"pickUpBy":"bob"}`); text != "FAILED_PRECONDITION: only 0 of lighthouse are in stock" {
		t.Errorf("%q", text)
	}
	var progress count
	reply, err := p.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":"WatchOrder","arguments":{"id":"` + id + `"},"_meta":{"progressToken":"w"}}`)}, &progress)
	if err != nil {
		t.Fatal(err)
	}
	watched := jsonrpc.Get(reply.Result, "structuredContent")
	validate(t, jsonrpc.Get(all["WatchOrder"], "outputSchema"), watched)
	states := 0
	jsonrpc.Elements(jsonrpc.Get(watched, "messages"), func([]byte) bool { states++; return true })
	if states == 0 || int(progress) != states || !strings.HasSuffix(string(watched), `"}]}`) || !strings.Contains(string(watched), "ORDER_STATE_DELIVERED") {
		t.Errorf("%d states, %d times progress: %s", states, progress, watched)
	}
	if got, _ := call(t, p, all, "GetOrder", `{"id":"`+id+`"}`); !strings.Contains(string(got), `"state":"ORDER_STATE_DELIVERED"`) {
		t.Errorf("%s", got)
	}
	if _, text := call(t, p, all, "CancelOrder", `{"id":"`+id+`"}`); !strings.HasPrefix(text, "FAILED_PRECONDITION: the order was shipped") {
		t.Errorf("%q", text)
	}
}

// count counts notifications.
type count int

func (c *count) Notification(string, json.RawMessage) { *c++ }

func (c *count) Request(context.Context, string, json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "a gRPC service asks nothing")
}

func TestTheFirstToolTakesNoArguments(t *testing.T) {
	p := open(t, orderdesk.New())
	reply, err := p.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":"ListProducts","arguments":{}}`)}, nil)
	if err != nil || reply.Error != nil || jsonrpc.Get(reply.Result, "isError") != nil {
		t.Errorf("%v %s %s", err, reply.Error, reply.Result)
	}
}

func TestTheEmbeddedDescriptorsAreThoseOfTheCode(t *testing.T) {
	raw, err := os.ReadFile("v1/orderdesk.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.GetFile()) != 1 {
		t.Fatalf("%d files", len(set.GetFile()))
	}
	embedded := set.GetFile()[0]
	embedded.SourceCodeInfo = nil
	embedded.ProtoReflect().SetUnknown(nil) // buf's own notes
	if diff := cmp.Diff(protodesc.ToFileDescriptorProto(orderdeskv1.File_orderdesk_v1_orderdesk_proto), embedded, protocmp.Transform()); diff != "" {
		t.Errorf("generate anew (-code +embedded):\n%s", diff)
	}
}
