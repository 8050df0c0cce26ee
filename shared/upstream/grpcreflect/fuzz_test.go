package grpcreflect_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/known/emptypb"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

var quiet = slog.New(slog.DiscardHandler)

// FuzzArguments: whatever the arguments are, an answer comes; and what a service gives back can be given to it.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"i64":"9007199254740993","raw":"AAEC","heat":"HEAT_LOW","many":["1",2],"left":"l"}`,
		`{"heats":{"a":"HEAT_HIGH"},"leaves":{"-3":{"name":"x"}},"byBool":{"true":"y"}}`,
		`{"right":{"name":"r"},"at":"2026-01-02T03:04:05.6Z","takes":"1.5s","form":{"a":[1,null]},"anyJson":[1]}`,
		`{"any":{"@type":"type.googleapis.com/kitchen.v1.Leaf","name":"held"},"mask":"a,bC","wrapped":"5","nothing":null}`,
		`{"smallFloat":"NaN","big":-0.0,"wrappedDouble":"Infinity"}`, `{"value":"x"}`, `{"leaf":{"nam":1}}`, `{"more":[{"name":7}]}`,
	} {
		f.Add("Echo", seed)
		f.Add("EchoName", seed)
	}
	f.Add("EchoAny", `{"value":{"a":[null,1e5,"\u0000\ud83d\ude00"]}}`)
	f.Add("EchoStruct", `{"a":{"b":[]}}`)
	f.Add("EchoTree", `{"branch":{"branches":{"":{}}},"children":[{},{"name":"x"}]}`)
	f.Add("Stream", `{"name":"s"}`)
	target, _ := newService(f, kitchen, kitchenHandlers).start(f)
	p := open(f, grpcreflect.Config{Target: target, Log: quiet})
	f.Fuzz(func(t *testing.T, tool, arguments string) {
		if jsonrpc.Check([]byte(arguments)) != nil || strings.TrimSpace(arguments)[0] != '{' {
			return // the gateway lets nothing else through
		}
		reply, err := p.Call(t.Context(), request(tool, strings.TrimSpace(arguments)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Error != nil {
			return
		}
		first := decode(t, reply)
		if first.IsError || strings.HasPrefix(tool, "Stream") {
			return
		}
		second := call(t, p, tool, string(first.Structured))
		if string(second.Structured) != string(first.Structured) {
			t.Errorf("%s came back as %s: %s", first.Structured, second.Structured, second.text())
		}
	})
}

// FuzzDescriptors: whatever a server says of itself, it harms nobody, nor does what it answers.
func FuzzDescriptors(f *testing.F) {
	for _, source := range []string{kitchen, plain, many, `syntax = "proto2"; package two; message M { required M m = 1; extensions 5; } service Two { rpc Do(M) returns (M); }`} {
		file, err := compile(f, map[string]string{"test.proto": source}).FindFileByPath("test.proto")
		if err != nil {
			f.Fatal(err)
		}
		described := protodesc.ToFileDescriptorProto(file)
		described.SourceCodeInfo = nil
		raw, err := proto.Marshal(described)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(file.Services().Get(0).FullName()), raw, []byte("\x0a\x03abc\x10\x07\x1a\x02\x10\x01"))
	}
	var service string
	var raw, answer []byte
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		var any emptypb.Empty
		any.ProtoReflect().SetUnknown(answer)
		return stream.SendMsg(&any)
	}))
	reflectionv1.RegisterServerReflectionServer(server, script(func() liar {
		return liar{services: []string{service}, file: func(asked string) []byte {
			if asked == service {
				return raw
			}
			return nil
		}}
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	f.Cleanup(func() {
		server.Stop()
		<-served
	})
	p := open(f, grpcreflect.Config{Target: listener.Addr().String(), Log: quiet})
	f.Fuzz(func(t *testing.T, name string, file, answers []byte) {
		service, raw, answer = name, file, answers
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		offer, err := p.Describe(ctx)
		if err != nil {
			if ctx.Err() != nil {
				t.Fatal("it takes too long")
			}
			return
		}
		for _, item := range offer.GetTools() {
			if jsonrpc.Check(item.GetJson()) != nil {
				t.Errorf("no JSON: %s", item.GetJson())
			}
			for _, schema := range []string{"inputSchema", "outputSchema"} {
				if kind, _ := jsonrpc.GetString(item.GetJson(), schema, "type"); kind != "object" {
					t.Errorf("%s is of type %q", schema, kind)
				}
			}
			reply, err := p.Call(ctx, upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":` + string(jsonrpc.String(item.GetKey())) + `}`)}, nil)
			if err == nil && jsonrpc.Check(append(reply.Result, reply.Error...)) != nil {
				t.Errorf("no JSON: %s %s", reply.Result, reply.Error)
			}
		}
	})
}

// script is a reflection service whose lies change.
type script func() liar

func (s script) ServerReflectionInfo(stream reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	return s().ServerReflectionInfo(stream)
}
