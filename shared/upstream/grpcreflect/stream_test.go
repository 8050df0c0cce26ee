package grpcreflect_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

// heard keeps the notifications of a call.
type heard struct{ all []string }

func (h *heard) Notification(method string, params json.RawMessage) {
	h.all = append(h.all, method+" "+string(params))
}

func (h *heard) Request(context.Context, string, json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "a gRPC service asks nothing")
}

func withToken(req upstream.Request) upstream.Request {
	req.Params = jsonrpc.With(req.Params, json.RawMessage(`7`), "_meta", "progressToken")
	return req
}

const many = `
syntax = "proto3";
package many.v1;
service Many { rpc Many(M) returns (stream N); }
message M { int32 count = 1; }
message N { string text = 1; }
`

func TestAStreamIsProgressAndOneResult(t *testing.T) {
	p := serve(t, many, map[string]handler{"Many": answer(`{"text":"a"}`, `{"text":"b"}`, `{"text":""}`)})
	var h heard
	reply, err := p.Call(t.Context(), withToken(request("Many", `{}`)), &h)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"messages":[{"text":"a"},{"text":"b"},{"text":""}]}`
	r := decode(t, reply)
	if string(r.Structured) != want {
		t.Errorf("%s", r.Structured)
	}
	if diff := cmp.Diff([]string{
		`notifications/progress {"progressToken":7,"progress":1,"message":"{\"text\":\"a\"}"}`,
		`notifications/progress {"progressToken":7,"progress":2,"message":"{\"text\":\"b\"}"}`,
		`notifications/progress {"progressToken":7,"progress":3,"message":"{\"text\":\"\"}"}`,
	}, h.all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := valid(t, describe(t, p)["Many"].OutputSchema, r.Structured); err != nil {
		t.Error(err)
	}
}

func TestAStreamIsSilentWhereNobodyAskedForProgress(t *testing.T) {
	p := serve(t, many, map[string]handler{"Many": answer(`{}`)})
	var h heard
	if _, err := p.Call(t.Context(), request("Many", `{}`), &h); err != nil || len(h.all) != 0 {
		t.Errorf("%v, %v", err, h.all)
	}
	if reply, err := p.Call(t.Context(), withToken(request("Many", `{}`)), nil); err != nil || decode(t, reply).IsError {
		t.Errorf("without a listener: %v", err)
	}
}

func TestProgressOfAGreatMessageIsCut(t *testing.T) {
	p := serve(t, many, map[string]handler{"Many": answer(`{"text":"` + strings.Repeat("é", 10_000) + `"}`)})
	var h heard
	reply, err := p.Call(t.Context(), withToken(request("Many", `{}`)), &h)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.all) != 1 || len(h.all[0]) > 5000 || !strings.HasSuffix(h.all[0], `…"}`) || !json.Valid([]byte(h.all[0][len("notifications/progress "):])) {
		t.Errorf("%d notifications, the first of %d bytes", len(h.all), len(h.all[0]))
	}
	if r := decode(t, reply); len(r.Structured) < 20_000 {
		t.Error("the result is cut too")
	}
}

func TestAStreamThatFailsKeepsWhatCame(t *testing.T) {
	p := serve(t, many, map[string]handler{"Many": func(r *rpc) error {
		if err := r.send(`{"text":"a"}`); err != nil {
			return err
		}
		return status.Error(codes.DataLoss, "gone")
	}})
	r := call(t, p, "Many", `{}`)
	if !r.IsError || r.text() != "DATA_LOSS: gone" || len(r.Content) != 3 || r.Content[2].Text != `{"messages":[{"text":"a"}]}` {
		t.Errorf("%v %v", r.IsError, r.Content)
	}
}

func TestAStreamWithoutEndIsEnded(t *testing.T) {
	ended := make(chan error, 1)
	s := newService(t, many, map[string]handler{"Many": func(r *rpc) error {
		for {
			if err := r.send(`{"text":"` + strings.Repeat("x", 100) + `"}`); err != nil {
				ended <- err
				return err
			}
		}
	}})
	target, _ := s.start(t)
	for name, config := range map[string]grpcreflect.Config{
		"10 messages": {Target: target, MaxMessages: 10},
		"2000 bytes":  {Target: target, MaxResult: 2000},
	} {
		r := call(t, open(t, config), "Many", `{}`)
		if !r.IsError || !strings.Contains(r.text(), name) {
			t.Errorf("%s: %q", name, r.text())
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the service was not told to stop")
		}
	}
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	p := serve(t, many, map[string]handler{"Many": func(r *rpc) error {
		for i := 0; r.Context().Err() == nil; i++ {
			if err := r.send(`{"text":"` + strconv.Itoa(i) + `"}`); err != nil {
				return err
			}
			if i == 2 {
				<-r.Context().Done()
			}
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := p.Call(ctx, withToken(request("Many", `{}`)), cancelAt{3, cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// cancelAt cancels a call at the message that is the n-th.
type cancelAt struct {
	n      int
	cancel func()
}

func (c cancelAt) Notification(_ string, params json.RawMessage) {
	if string(jsonrpc.Get(params, "progress")) == strconv.Itoa(c.n) {
		c.cancel()
	}
}

func (c cancelAt) Request(context.Context, string, json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, nil
}
