package grpcreflect_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

// rpc is one call of a method, as the test's server sees it.
type rpc struct {
	grpc.ServerStream
	in     *dynamicpb.Message
	output protoreflect.MessageDescriptor
	types  *dynamicpb.Types
}

// send answers with the message that the JSON says.
func (r *rpc) send(text string) error {
	out := dynamicpb.NewMessage(r.output)
	if err := (protojson.UnmarshalOptions{Resolver: r.types}).Unmarshal([]byte(text), out); err != nil {
		return status.Errorf(codes.Internal, "the test's answer: %v", err)
	}
	return r.SendMsg(out)
}

type handler func(r *rpc) error

// answer is a handler that sends messages.
func answer(texts ...string) handler {
	return func(r *rpc) error {
		for _, text := range texts {
			if err := r.send(text); err != nil {
				return err
			}
		}
		return nil
	}
}

// echo sends the request back, where both messages are one.
func echo(r *rpc) error { return r.SendMsg(r.in) }

// compile makes descriptors, with comments, of proto sources by file name.
func compile(t testing.TB, sources map[string]string) *protoregistry.Files {
	t.Helper()
	linked := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: file}, err
	})
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)}, linked,
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files := &protoregistry.Files{}
	for path := range sources {
		compiled, err := compiler.Compile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := files.FindFileByPath(path); err != nil {
			// What was compiled as an import of another is registered once.
			if err := files.RegisterFile(compiled[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// service is a gRPC server of a test. The zero reflection is both versions.
type service struct {
	files    *protoregistry.Files
	handlers map[string]handler // by the method's name; or by its full name
	options  []grpc.ServerOption
	// reflect registers reflection; nil for both versions of the usual one.
	reflect func(*grpc.Server, reflection.ServerOptions)
}

func newService(t testing.TB, source string, handlers map[string]handler) *service {
	return &service{files: compile(t, map[string]string{"test.proto": source}), handlers: handlers}
}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (s *service) GetServiceInfo() map[string]grpc.ServiceInfo {
	all := map[string]grpc.ServiceInfo{"grpc.health.v1.Health": {}, "grpc.reflection.v1.ServerReflection": {}}
	s.files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			all[string(f.Services().Get(i).FullName())] = grpc.ServiceInfo{}
		}
		return true
	})
	return all
}

// FindFileByPath and FindDescriptorByName implement protodesc.Resolver.
func (s *service) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := s.files.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (s *service) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := s.files.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

var _ protodesc.Resolver = (*service)(nil)

func reflectV1(server *grpc.Server, options reflection.ServerOptions) {
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
}

func reflectV1Alpha(server *grpc.Server, options reflection.ServerOptions) {
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
}

func reflectNot(*grpc.Server, reflection.ServerOptions) {}

func (s *service) handle(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	full := protoreflect.FullName(strings.ReplaceAll(path[1:], "/", "."))
	d, err := s.files.FindDescriptorByName(full)
	if err != nil {
		return status.Errorf(codes.Unimplemented, "unknown method %s", path)
	}
	m := d.(protoreflect.MethodDescriptor)
	r := &rpc{ServerStream: stream, in: dynamicpb.NewMessage(m.Input()), output: m.Output(), types: dynamicpb.NewTypes(s.files)}
	if err := stream.RecvMsg(r.in); err != nil {
		return err
	}
	if h := s.handlers[string(full)]; h != nil {
		return h(r)
	}
	if h := s.handlers[string(m.Name())]; h != nil {
		return h(r)
	}
	return status.Error(codes.Unimplemented, "the test has no handler")
}

// start serves on a loopback port, or on the address given, until the test ends or stop is called.
func (s *service) start(t testing.TB, address ...string) (target string, stop func()) {
	t.Helper()
	listen := "127.0.0.1:0"
	if len(address) > 0 {
		listen = address[0]
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(s.options, grpc.UnknownServiceHandler(s.handle))...)
	register := s.reflect
	if register == nil {
		register = func(server *grpc.Server, options reflection.ServerOptions) {
			reflectV1(server, options)
			reflectV1Alpha(server, options)
		}
	}
	register(server, reflection.ServerOptions{Services: s, DescriptorResolver: s})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop = sync.OnceFunc(func() {
		server.Stop()
		<-served
	})
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// open opens a Peer that the test's end closes.
func open(t testing.TB, config grpcreflect.Config) *grpcreflect.Peer {
	t.Helper()
	if config.Log == nil {
		config.Log = testkit.Logger(t)
	}
	p, err := grpcreflect.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// serve starts a service of one file and opens a Peer to it.
func serve(t testing.TB, source string, handlers map[string]handler) *grpcreflect.Peer {
	t.Helper()
	target, _ := newService(t, source, handlers).start(t)
	return open(t, grpcreflect.Config{Target: target})
}

// within bounds a wait in a test.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func request(tool, arguments string) upstream.Request {
	return upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":` + string(jsonrpc.String(tool)) + `,"arguments":` + arguments + `}`)}
}

// toolResult is a CallToolResult.
type toolResult struct {
	Content []struct {
		Type, Text string
	}
	Structured json.RawMessage `json:"structuredContent"`
	IsError    bool
	ResultType string
	Meta       map[string]json.RawMessage `json:"_meta"`
}

func (r toolResult) text() string {
	if len(r.Content) == 0 {
		return ""
	}
	return r.Content[0].Text
}

// call calls a tool and fails the test where no result comes.
func call(t testing.TB, p *grpcreflect.Peer, tool, arguments string) toolResult {
	t.Helper()
	reply, err := p.Call(within(t, 20*time.Second), request(tool, arguments), nil)
	if err != nil {
		t.Fatalf("calling %s: %v", tool, err)
	}
	return decode(t, reply)
}

func decode(t testing.TB, reply upstream.Reply) toolResult {
	t.Helper()
	if reply.Error != nil {
		t.Fatalf("an error instead of a result: %s", reply.Error)
	}
	if err := jsonrpc.Check(reply.Result); err != nil {
		t.Fatalf("%v: %s", err, reply.Result)
	}
	var r toolResult
	if err := json.Unmarshal(reply.Result, &r); err != nil {
		t.Fatalf("%v: %s", err, reply.Result)
	}
	if r.ResultType != "complete" {
		t.Errorf("resultType is %q", r.ResultType)
	}
	if !r.IsError && r.text() != string(r.Structured) {
		t.Errorf("text %s differs from structure %s", r.text(), r.Structured)
	}
	return r
}

// tool is a tool of an offer.
type tool struct {
	Name, Title, Description  string
	InputSchema, OutputSchema json.RawMessage
	Annotations               json.RawMessage
}

// describe returns the tools by name.
func describe(t testing.TB, p *grpcreflect.Peer) map[string]tool {
	t.Helper()
	offer, err := p.Describe(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tool{}
	for _, item := range offer.GetTools() {
		var one tool
		if err := json.Unmarshal(item.GetJson(), &one); err != nil {
			t.Fatalf("%v: %s", err, item.GetJson())
		}
		if one.Name != item.GetKey() {
			t.Errorf("the tool under %q is named %q", item.GetKey(), one.Name)
		}
		all[one.Name] = one
	}
	return all
}
