package grpcreflect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

// plain is a service of a few methods.
const plain = `
syntax = "proto3";
package plain.v1;
import "google/protobuf/any.proto";
service Plain {
  rpc Do(M) returns (M);
  rpc Hold(M) returns (google.protobuf.Any);
  rpc Many(M) returns (stream M);
}
message M { string text = 1; int64 number = 2; M inner = 3; repeated M list = 4; }
`

func TestSixtyFourBitIntegersKeepEachDigit(t *testing.T) {
	p := serve(t, plain, map[string]handler{"Do": echo})
	for _, given := range []string{`9007199254740993`, `"9007199254740993"`, `"-9223372036854775808"`} {
		r := call(t, p, "Do", `{"number":`+given+`}`)
		want := `{"text":"","number":"` + strings.Trim(given, `"`) + `","list":[]}`
		if string(r.Structured) != want {
			t.Errorf("%s came back as %s", given, r.Structured)
		}
	}
}

func TestResultsAreTheSameBytesEachTime(t *testing.T) {
	p := serve(t, kitchen, kitchenHandlers)
	const arguments = `{"heats":{"b":"HEAT_LOW","a":"HEAT_HIGH","c":"HEAT_LOW"},"text":"a  \"b\\\" , c","form":{"z":1,"a":[1, 2]}}`
	first := call(t, p, "Echo", arguments)
	for range 5 {
		if again := call(t, p, "Echo", arguments); string(again.Structured) != string(first.Structured) {
			t.Fatalf("%s, then %s", first.Structured, again.Structured)
		}
	}
	if text, _ := jsonrpc.GetString(first.Structured, "text"); text != `a  "b\" , c` {
		t.Errorf("blanks in a string changed: %q", text)
	}
}

func TestAbsentArgumentsAreNone(t *testing.T) {
	p := serve(t, plain, map[string]handler{"Do": echo})
	for _, params := range []string{`{"name":"Do"}`, `{"name":"Do","arguments":null}`} {
		reply, err := p.Call(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(params)}, nil)
		if err != nil || reply.Error != nil || decode(t, reply).IsError {
			t.Errorf("%s: %v, %s", params, err, reply.Error)
		}
	}
}

func TestRequestsThatAreNoCallAreErrors(t *testing.T) {
	p := serve(t, plain, nil)
	for _, c := range []struct {
		method, params string
		code           int64
	}{
		{"tools/call", `{"name":"Missing"}`, jsonrpc.CodeInvalidParams},
		{"tools/call", `{"name":7}`, jsonrpc.CodeInvalidParams},
		{"tools/call", `{}`, jsonrpc.CodeInvalidParams},
		{"tools/call", ``, jsonrpc.CodeInvalidParams},
		{"tools/call", `{"name":"Do","arguments":[]}`, jsonrpc.CodeInvalidParams},
		{"tools/list", `{}`, jsonrpc.CodeMethodNotFound},
		{"server/discover", `{}`, jsonrpc.CodeMethodNotFound},
		{"prompts/get", `{"name":"x"}`, jsonrpc.CodeMethodNotFound},
	} {
		reply, err := p.Call(within(t, 10*time.Second), upstream.Request{Method: c.method, Params: json.RawMessage(c.params)}, nil)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.params, err)
			continue
		}
		if got := jsonrpc.ParseError(reply.Error); reply.Error == nil || got.Code != c.code {
			t.Errorf("%s %s: %s", c.method, c.params, reply.Error)
		}
	}
}

func TestStatusesBecomeErrorResults(t *testing.T) {
	detailed, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: "STOCK", Subject: "mug", Description: "none left"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	strange := detailed.Proto()
	strange.Details = append(strange.Details, &anypb.Any{TypeUrl: "type.googleapis.com/nobody.Knows", Value: []byte{8, 1}})
	var next error
	p := serve(t, plain, map[string]handler{"Do": func(*rpc) error { return next }})
	for _, c := range []struct {
		err               error
		text, meta, extra string
	}{
		{status.Error(codes.NotFound, "no such mug"), "NOT_FOUND: no such mug", `{"code":"NOT_FOUND","number":5,"message":"no such mug"}`, ""},
		{status.Error(codes.Code(77), "odd"), "CODE_77: odd", `{"code":"CODE_77","number":77,"message":"odd"}`, ""},
		{
			status.FromProto(strange).Err(), "FAILED_PRECONDITION: not now",
			`{"code":"FAILED_PRECONDITION","number":9,"message":"not now","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"STOCK","subject":"mug","description":"none left"}]},{"@type":"type.googleapis.com/nobody.Knows"}]}`,
			`"subject":"mug"`,
		},
		{status.Error(codes.Unavailable, "busy"), "UNAVAILABLE: busy\nThe service became unavailable during the call; whether it was carried out is unknown.", `{"code":"UNAVAILABLE","number":14,"message":"busy"}`, ""},
		{status.Error(codes.Canceled, "I gave up"), "CANCELLED: I gave up", `{"code":"CANCELLED","number":1,"message":"I gave up"}`, ""},
	} {
		next = c.err
		r := call(t, p, "Do", `{}`)
		if !r.IsError || r.text() != c.text || r.Structured != nil {
			t.Errorf("%v: error %v, %q, structure %s", c.err, r.IsError, r.text(), r.Structured)
		}
		if got := string(r.Meta["dev.erlmcp/grpcStatus"]); got != c.meta {
			t.Errorf("%v: _meta has %s", c.err, got)
		}
		if c.extra != "" && (len(r.Content) != 2 || !strings.Contains(r.Content[1].Text, c.extra)) {
			t.Errorf("%v: the details are not told: %v", c.err, r.Content)
		}
	}
}

func TestAnAnyOfUnknownTypeIsShownByItsName(t *testing.T) {
	p := serve(t, plain, map[string]handler{"Hold": func(r *rpc) error {
		return r.SendMsg(&anypb.Any{TypeUrl: "type.googleapis.com/nobody.Knows", Value: []byte{8, 1}})
	}})
	if r := call(t, p, "Hold", `{}`); string(r.Structured) != `{"@type":"type.googleapis.com/nobody.Knows"}` {
		t.Errorf("%v %s", r.IsError, r.text())
	}
}

func TestMetadataAndTraceTravelWithTheCall(t *testing.T) {
	var got metadata.MD
	s := newService(t, plain, map[string]handler{"Do": func(r *rpc) error {
		got, _ = metadata.FromIncomingContext(r.Context())
		return r.send(`{}`)
	}})
	target, _ := s.start(t)
	p := open(t, grpcreflect.Config{Target: target, Metadata: map[string]string{"Authorization": "Bearer x", "blob-bin": "AAE="}})
	req := request("Do", `{}`)
	req.Headers = http.Header{"Traceparent": {"00-1-2-03"}, "Mcp-Param-X": {"y"}}
	req.Params = jsonrpc.With(req.Params, json.RawMessage(`{"tracestate":"a=b","traceparent":"other"}`), "_meta")
	if _, err := p.Call(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"authorization": "Bearer x", "blob-bin": "\x00\x01", "traceparent": "00-1-2-03", "tracestate": "a=b"} {
		if values := got.Get(key); len(values) != 1 || values[0] != want {
			t.Errorf("%s: %q", key, values)
		}
	}
	if got.Get("mcp-param-x") != nil {
		t.Error("MCP's own headers went to the service")
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []struct {
		config grpcreflect.Config
		says   string
	}{
		{grpcreflect.Config{}, "no target"},
		{grpcreflect.Config{Target: "x:1", Metadata: map[string]string{"grpc-timeout": "secret"}}, "grpc-"},
		{grpcreflect.Config{Target: "x:1", Metadata: map[string]string{"a b": "secret"}}, "a key is made of"},
		{grpcreflect.Config{Target: "x:1", Metadata: map[string]string{"a": "secret\n"}}, "printable"},
		{grpcreflect.Config{Target: "x:1", Metadata: map[string]string{"a-bin": "secret"}}, "base64"},
		{grpcreflect.Config{Target: "xyz://\x00"}, "cannot be used"},
	} {
		_, err := grpcreflect.Open(t.Context(), c.config)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", c.config, err)
		}
	}
}

func TestTheCallsDeadlineReachesTheServiceAndEndsTheCall(t *testing.T) {
	ended := make(chan time.Duration, 1)
	s := newService(t, plain, map[string]handler{"Do": func(r *rpc) error {
		deadline, _ := r.Context().Deadline()
		ended <- time.Until(deadline)
		<-r.Context().Done()
		return r.Context().Err()
	}})
	target, _ := s.start(t)
	p := open(t, grpcreflect.Config{Target: target, CallTimeout: 300 * time.Millisecond})
	if r := call(t, p, "Do", `{}`); !r.IsError || !strings.HasPrefix(r.text(), "DEADLINE_EXCEEDED: Do did not answer within 300ms") {
		t.Errorf("%q", r.text())
	}
	if left := <-ended; left <= 0 || left > 300*time.Millisecond {
		t.Errorf("the service had %v left", left)
	}
	// The caller's own deadline is the caller's error.
	_, err := p.Call(within(t, 50*time.Millisecond), request("Do", `{}`), nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	<-ended
}

func TestCancellingReachesTheService(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	p := serve(t, plain, map[string]handler{"Do": func(r *rpc) error {
		close(started)
		<-r.Context().Done()
		ended <- r.Context().Err()
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := p.Call(ctx, request("Do", `{}`), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the service saw %v", err)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	started := make(chan struct{})
	p := serve(t, plain, map[string]handler{"Do": func(r *rpc) error {
		close(started)
		<-r.Context().Done()
		return nil
	}})
	go func() {
		<-started
		_ = p.Close()
	}()
	if _, err := p.Call(t.Context(), request("Do", `{}`), nil); !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := p.Call(t.Context(), request("Do", `{}`), nil); !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestACallThatWasNotSentSaysSo(t *testing.T) {
	s := newService(t, plain, map[string]handler{"Do": echo})
	target, stop := s.start(t)
	p := open(t, grpcreflect.Config{Target: target})
	if r := call(t, p, "Do", `{}`); r.IsError {
		t.Fatal(r.text())
	}
	stop()
	testkit.Eventually(t, func() error { // until the connection's end was noticed a call may seem to be sent
		reply, err := p.Call(t.Context(), request("Do", `{}`), nil)
		if err == nil && !strings.Contains(string(reply.Result), "whether it was carried out is unknown") {
			t.Errorf("who answered? %s", reply.Result)
		}
		if err == nil {
			return errors.New("the service is down, and the call was sent")
		}
		if !errors.Is(err, upstream.ErrNotSent) {
			t.Errorf("the service is down: %v", err)
		}
		return nil
	}, 20*time.Second)
	nobody := open(t, grpcreflect.Config{Target: target})
	if _, err := nobody.Call(within(t, 20*time.Second), request("Do", `{}`), nil); !errors.Is(err, upstream.ErrNotSent) {
		t.Errorf("the service was never up: %v", err)
	}
	if _, err := nobody.Describe(within(t, 20*time.Second)); !errors.Is(err, upstream.ErrNotSent) {
		t.Errorf("describing: %v", err)
	}
}

func TestACallThatWasCutOffMayHaveBeenCarriedOut(t *testing.T) {
	started := make(chan struct{})
	s := newService(t, plain, map[string]handler{"Do": func(r *rpc) error {
		close(started)
		<-r.Context().Done()
		return nil
	}})
	target, stop := s.start(t)
	p := open(t, grpcreflect.Config{Target: target})
	go func() {
		<-started
		stop()
	}()
	if r := call(t, p, "Do", `{}`); !r.IsError || !strings.HasPrefix(r.text(), "UNAVAILABLE: ") || !strings.Contains(r.text(), "whether it was carried out is unknown") {
		t.Errorf("%q", r.text())
	}
}

func TestANewReleaseIsNoticed(t *testing.T) {
	old := newService(t, plain, map[string]handler{"Do": echo})
	target, stop := old.start(t)
	p := open(t, grpcreflect.Config{Target: target})
	if r := call(t, p, "Do", `{"fresh":"x"}`); !r.IsError {
		t.Fatal("the old release takes what only the new one has")
	}
	stop()
	next := newService(t, strings.Replace(plain, "message M {", "message M { string fresh = 9;", 1), map[string]handler{"Do": echo})
	next.start(t, target)
	testkit.Eventually(t, func() error { // the connection is made anew at gRPC's pace
		reply, err := p.Call(t.Context(), request("Do", `{"fresh":"x"}`), nil)
		if err == nil && !strings.Contains(string(reply.Result), `"fresh":"x"`) {
			err = errors.New(string(reply.Result))
		}
		return err
	}, 20*time.Second)
}

func TestReflectionMayBeAlphaOnly(t *testing.T) {
	s := newService(t, plain, map[string]handler{"Do": echo})
	s.reflect = reflectV1Alpha
	target, _ := s.start(t)
	if r := call(t, open(t, grpcreflect.Config{Target: target}), "Do", `{"text":"x"}`); r.IsError {
		t.Error(r.text())
	}
}

func TestAServerWithoutReflectionIsTold(t *testing.T) {
	s := newService(t, plain, map[string]handler{"Do": echo})
	s.reflect = reflectNot
	target, _ := s.start(t)
	p := open(t, grpcreflect.Config{Target: target})
	_, err := p.Describe(within(t, 10*time.Second))
	if !errors.Is(err, upstream.ErrRefused) || !strings.Contains(err.Error(), "no server reflection; register grpc.reflection.v1") {
		t.Errorf("%v", err)
	}
	if _, err := p.Call(t.Context(), request("Do", `{}`), nil); !errors.Is(err, upstream.ErrRefused) {
		t.Errorf("%v", err)
	}
}

func TestAPeerServesManyCallsAtOnce(t *testing.T) {
	s := newService(t, plain, map[string]handler{"Do": echo, "Many": echo})
	reads := 0
	s.reflect = reflectV1
	s.options = []grpc.ServerOption{grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if strings.Contains(info.FullMethod, "ServerReflection") {
			reads++ // one at a time, or the race detector says so
		}
		return next(srv, stream)
	})}
	target, _ := s.start(t)
	p := open(t, grpcreflect.Config{Target: target})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for _, tool := range []string{"Do", "Many"} {
				text := fmt.Sprintf("t%d", i)
				reply, err := p.Call(t.Context(), request(tool, `{"text":"`+text+`"}`), nil)
				if err != nil || !strings.Contains(string(reply.Result), text) {
					t.Errorf("%s: %v, %s", tool, err, reply.Result)
				}
			}
		})
	}
	all.Wait()
	if reads != 1 {
		t.Errorf("the descriptors were read %d times", reads)
	}
}
