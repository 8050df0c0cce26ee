package grpcreflect_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

// liar is a server that says what a test wants of itself.
type liar struct {
	reflectionv1.UnimplementedServerReflectionServer
	services []string
	// file returns the file that defines a symbol or has a path; nil for none.
	file func(name string) []byte
}

func (l liar) ServerReflectionInfo(stream reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		out := &reflectionv1.ServerReflectionResponse{OriginalRequest: in}
		switch in.GetMessageRequest().(type) {
		case *reflectionv1.ServerReflectionRequest_ListServices:
			list := &reflectionv1.ListServiceResponse{}
			for _, name := range l.services {
				list.Service = append(list.Service, &reflectionv1.ServiceResponse{Name: name})
			}
			out.MessageResponse = &reflectionv1.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
		default:
			if file := l.file(in.GetFileContainingSymbol() + in.GetFileByFilename()); file != nil {
				out.MessageResponse = &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
					FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: [][]byte{file}},
				}
			} else {
				out.MessageResponse = &reflectionv1.ServerReflectionResponse_ErrorResponse{
					ErrorResponse: &reflectionv1.ErrorResponse{ErrorCode: int32(codes.NotFound), ErrorMessage: "no"},
				}
			}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (l liar) start(t *testing.T) string {
	t.Helper()
	s := newService(t, plain, nil)
	s.reflect = func(server *grpc.Server, _ reflection.ServerOptions) {
		reflectionv1.RegisterServerReflectionServer(server, l)
	}
	target, _ := s.start(t)
	return target
}

func encodeFile(t *testing.T, file *descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	raw, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDescriptorsHaveBounds(t *testing.T) {
	file := func(name string, imports ...string) []byte {
		return encodeFile(t, &descriptorpb.FileDescriptorProto{Name: &name, Dependency: imports, Syntax: proto.String("proto3")})
	}
	always := func(raw []byte) func(string) []byte { return func(string) []byte { return raw } }
	var thousands []string
	for i := range 2000 {
		thousands = append(thousands, fmt.Sprintf("s.S%d", i))
	}
	great := strings.Repeat("x", 9<<20)
	n := 0
	for name, c := range map[string]struct {
		liar liar
		says string
	}{
		"services without end": {liar{services: thousands}, "at most 1024"},
		"imports without end": {liar{services: []string{"s.S"}, file: func(string) []byte {
			n++
			return file(fmt.Sprint(n), fmt.Sprint(n+1))
		}}, "more than 4096 files"},
		"files without end": {liar{services: []string{"s.S"}, file: func(asked string) []byte {
			return append(file(asked, asked+"x"), encodeFile(t, &descriptorpb.FileDescriptorProto{SourceCodeInfo: &descriptorpb.SourceCodeInfo{
				Location: []*descriptorpb.SourceCodeInfo_Location{{LeadingComments: &great}},
			}})...)
		}}, "longer than 32 MiB"},
		"files in a circle":        {liar{services: []string{"s.S"}, file: always(file("s.S", "s.S"))}, "do not fit together"},
		"no descriptor at all":     {liar{services: []string{"s.S"}, file: always([]byte{0xff})}, "cannot be read"},
		"a service that is none":   {liar{services: []string{"s.S"}, file: always(encodeFile(t, &descriptorpb.FileDescriptorProto{Name: proto.String("f"), Package: proto.String("s"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("S")}}}))}, "but it is none"},
		"names that are no names":  {liar{services: []string{"s.S"}, file: always(encodeFile(t, &descriptorpb.FileDescriptorProto{Name: proto.String("f"), Package: proto.String("s/"), Syntax: proto.String("proto3")}))}, "do not fit together"},
		"types that do not exist":  {liar{services: []string{"s.S"}, file: always(encodeFile(t, &descriptorpb.FileDescriptorProto{Name: proto.String("f"), Package: proto.String("s"), Syntax: proto.String("proto3"), Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{{Name: proto.String("M"), InputType: proto.String("not a name"), OutputType: proto.String(".s.T")}}}}}))}, "do not fit together"},
		"a file that has no name":  {liar{services: []string{"s.S"}, file: always(encodeFile(t, &descriptorpb.FileDescriptorProto{Syntax: proto.String("proto3")}))}, "do not fit together"},
		"a syntax from the future": {liar{services: []string{"s.S"}, file: always(encodeFile(t, &descriptorpb.FileDescriptorProto{Name: proto.String("f"), Syntax: proto.String("proto9")}))}, "do not fit together"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(t, grpcreflect.Config{Target: c.liar.start(t)}).Describe(within(t, 60*time.Second))
			if !errors.Is(err, upstream.ErrRefused) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAServiceWithoutDescriptorIsLeftOut(t *testing.T) {
	files := compile(t, map[string]string{"test.proto": plain})
	test, err := files.FindFileByPath("test.proto")
	if err != nil {
		t.Fatal(err)
	}
	l := liar{services: []string{"gone.Gone", "plain.v1.Plain"}, file: func(asked string) []byte {
		if asked == "plain.v1.Plain" {
			return encodeFile(t, protodesc.ToFileDescriptorProto(test))
		}
		return nil // not even any.proto, which everybody knows
	}}
	target := l.start(t)
	if tools := describe(t, open(t, grpcreflect.Config{Target: target})); len(tools) != 3 {
		t.Errorf("%v", tools)
	}
	_, err = open(t, grpcreflect.Config{Target: target, Services: []string{"gone.Gone"}}).Describe(within(t, 10*time.Second))
	if err == nil || !strings.Contains(err.Error(), "gone.Gone") {
		t.Errorf("a configured one: %v", err)
	}
}

func TestAMethodWhoseTypesAreMissingIsLeftOut(t *testing.T) {
	files := compile(t, map[string]string{
		"test.proto": `syntax = "proto3"; package t; import "other.proto"; message M { string text = 1; } message Deep { M m = 1; o.O o = 2; }
			service S { rpc Good(M) returns (M); rpc Bad(M) returns (Deep); rpc Worse(o.O) returns (M); }`,
		"other.proto": `syntax = "proto3"; package o; message O {}`,
	})
	test, err := files.FindFileByPath("test.proto")
	if err != nil {
		t.Fatal(err)
	}
	l := liar{services: []string{"t.S"}, file: func(asked string) []byte {
		if asked == "t.S" {
			return encodeFile(t, protodesc.ToFileDescriptorProto(test))
		}
		return nil
	}}
	tools := describe(t, open(t, grpcreflect.Config{Target: l.start(t)}))
	if len(tools) != 1 || tools["Good"].Name == "" {
		t.Errorf("%v", tools)
	}
}

func TestReflectionThatHangsIsGivenUp(t *testing.T) {
	hang := make(chan struct{})
	s := newService(t, plain, nil)
	s.options = []grpc.ServerOption{grpc.StreamInterceptor(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
		<-hang // though the client's deadline, which is known here too, may come first
		return nil
	})}
	target, _ := s.start(t)
	defer close(hang)
	p := open(t, grpcreflect.Config{Target: target, DescribeTimeout: 100 * time.Millisecond})
	if _, err := p.Describe(within(t, 10*time.Second)); !errors.Is(err, upstream.ErrNotSent) {
		t.Errorf("%v", err)
	}
	if _, err := p.Call(within(t, 50*time.Millisecond), request("Do", `{}`), nil); err == nil {
		t.Error("a call went through")
	}
}

func TestGreatSchemasHaveBounds(t *testing.T) {
	var wide, chain, oneof strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&wide, "string field_with_a_rather_long_name_%d = %d;\n", i, i+1)
	}
	for i := range 700 {
		fmt.Fprintf(&chain, "message C%d { C%d next = 1; string text = 2; }\n", i, i+1)
	}
	for i := range 300 {
		fmt.Fprintf(&oneof, "string o%d = %d;\n", i, i+1)
	}
	p := serve(t, `syntax = "proto3"; package t;
		message Wide { Wide self = 6000; `+wide.String()+` }
		`+chain.String()+` message C700 { C0 first = 1; }
		message One { oneof one { `+oneof.String()+` } }
		message Big { Big2 big = 1; Wide wide = 2; } message Big2 { One one = 1; One two = 2; }
		service S { rpc Wide(.t.Wide) returns (.t.Wide); rpc Chain(C0) returns (C0); rpc One(.t.One) returns (.t.One); rpc Big(.t.Big) returns (stream .t.Big); }`,
		map[string]handler{"Wide": echo, "Chain": echo, "One": echo, "Big": echo})
	for name, tool := range describe(t, p) {
		if len(tool.InputSchema) > 256<<10 || len(tool.OutputSchema) > 256<<10 {
			t.Errorf("%s: schemas of %d and %d bytes", name, len(tool.InputSchema), len(tool.OutputSchema))
		}
		r := call(t, p, name, `{}`)
		if err := valid(t, tool.OutputSchema, r.Structured); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := valid(t, tool.InputSchema, []byte(`{}`)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnswersHaveBounds(t *testing.T) {
	var fields strings.Builder
	for i := range 500 {
		fmt.Fprintf(&fields, "int64 f%d = %d;\n", i, i+10)
	}
	deep := strings.Repeat(`{"inner":`, 150) + `{}` + strings.Repeat(`}`, 150)
	empty := `{"list":[{}` + strings.Repeat(`,{}`, 20_000) + `]}` // 40 KB on the wire, 100 MB as JSON
	long := `{"texts":["` + strings.Repeat("x", 2<<20) + `"]}`
	heats := `{"heats":[1` + strings.Repeat(`,1`, 50_000) + `]}`
	s := newService(t, `syntax = "proto3"; package t; import "google/protobuf/any.proto";
		enum E { ZERO = 0; A_`+strings.Repeat("LONG_", 100)+`NAME = 1; }
		message M { M inner = 1; repeated M list = 2; repeated string texts = 3; repeated E heats = 4; google.protobuf.Any any = 5; map<string, M> map = 6; `+fields.String()+` }
		service S { rpc Deep(M) returns (M); rpc Empty(M) returns (M); rpc Long(M) returns (M); rpc Heats(M) returns (M); rpc Held(M) returns (M); rpc Map(M) returns (M); rpc Good(M) returns (M); }`,
		map[string]handler{
			"Deep": answer(deep), "Empty": answer(empty), "Long": answer(long), "Heats": answer(heats),
			"Held": answer(`{"any":{"@type":"x/t.M",` + empty[1:] + `}`), "Map": answer(`{"map":{"x":` + empty + `}}`), "Good": answer(`{}`),
		})
	target, _ := s.start(t)
	p := open(t, grpcreflect.Config{Target: target, MaxResult: 1 << 20})
	for tool, says := range map[string]string{
		"Deep": "nests deeper than 100", "Empty": "longer than 1048576", "Long": "longer than 1048576", "Heats": "longer than 1048576",
		"Held": "longer than 1048576", "Map": "longer than 1048576",
	} {
		r := call(t, p, tool, `{}`)
		if !r.IsError || !strings.Contains(r.text(), says) || !strings.Contains(r.text(), "was carried out") {
			t.Errorf("%s: %.200q", tool, r.text())
		}
	}
	if r := call(t, p, "Good", `{}`); r.IsError {
		t.Error(r.text())
	}
	small := open(t, grpcreflect.Config{Target: target, MaxMessage: 1000})
	if r := call(t, small, "Long", `{}`); !r.IsError || !strings.HasPrefix(r.text(), "RESOURCE_EXHAUSTED: ") {
		t.Errorf("%.200q", r.text())
	}
}

func TestProto2ServicesWork(t *testing.T) {
	p := serve(t, `syntax = "proto2"; package two;
		enum Size { SMALL = 1; LARGE = 2; }
		message M {
			required string name = 1;
			optional int64 count = 2 [default = 7];
			optional Size size = 3 [default = LARGE];
			optional string note = 4 [default = "n\"o"];
			optional bool flag = 5 [default = true];
			repeated group Part = 6 { optional string text = 1; }
			extensions 100 to 200;
		}
		extend M { optional string more = 100; }
		service Two { rpc Do(M) returns (M); }`, map[string]handler{"Do": echo})
	do := describe(t, p)["Do"]
	for _, c := range []struct{ arguments, want string }{
		{`{"name":"a"}`, `{"name":"a","part":[]}`},
		{`{"name":"a","count":"8","size":"SMALL","part":[{"text":"x"}]}`, `{"name":"a","count":"8","size":"SMALL","part":[{"text":"x"}]}`},
	} {
		if err := valid(t, do.InputSchema, []byte(c.arguments)); err != nil {
			t.Error(err)
		}
		r := call(t, p, "Do", c.arguments)
		if string(r.Structured) != c.want {
			t.Errorf("%s: %s", c.arguments, r.text())
		}
		if err := valid(t, do.OutputSchema, r.Structured); err != nil {
			t.Error(err)
		}
	}
	if r := call(t, p, "Do", `{"count":1}`); !r.IsError || !strings.Contains(r.text(), "required") || !strings.Contains(r.text(), "name") {
		t.Errorf("a required field is missing: %q", r.text())
	}
	if valid(t, do.InputSchema, []byte(`{"count":1}`)) == nil {
		t.Error("the schema takes a message without its required field")
	}
	for _, part := range []string{`"required":["name"]`, `"default":"7"`, `"default":"LARGE"`, `"default":"n\"o"`, `"default":true`} {
		if !strings.Contains(string(do.InputSchema), part) {
			t.Errorf("no %s in %s", part, do.InputSchema)
		}
	}
}
