package mux_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mux"
)

// ear is a listener that keeps what it hears.
type ear struct {
	mu    sync.Mutex
	heard []string
	ask   func(ctx context.Context, method string) (json.RawMessage, *jsonrpc.Error)
}

func (e *ear) Notification(method string, params json.RawMessage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, method+" "+string(params))
}

func (e *ear) Request(ctx context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return e.ask(ctx, method)
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// conversation is a Mux whose answers to the server can be read.
func conversation(t *testing.T, standing upstream.Listener) (*mux.Mux, <-chan string) {
	answers := make(chan string, 1000)
	m := mux.New(standing, func(_ context.Context, message []byte) error {
		answers <- string(message)
		return nil
	})
	t.Cleanup(func() {
		m.Fail(upstream.ErrClosed)
		m.Wait()
	})
	return m, answers
}

func begin(t *testing.T, m *mux.Mux, params string, from upstream.Listener) *mux.Call {
	t.Helper()
	c, err := m.Begin(t.Context(), upstream.Request{Method: "tools/call", Params: json.RawMessage(params)}, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.End)
	return c
}

func deliver(t *testing.T, m *mux.Mux, related *mux.Call, format string, args ...any) {
	t.Helper()
	if err := m.Deliver(fmt.Appendf(nil, format, args...), related); err != nil {
		t.Fatal(err)
	}
}

func id(c *mux.Call) string { return string(jsonrpc.Get(c.Message, "id")) }

func TestAnswersFindTheirCallsAsTheyAre(t *testing.T) {
	m, _ := conversation(t, nil)
	first, second := begin(t, m, `{}`, nil), begin(t, m, `{}`, nil)
	result := `{"big": 12345678901234567890.10, "x":  [1e400,"é"], "new\u0041":null}`
	deliver(t, m, first, `{"jsonrpc":"2.0","id":%s,"result":%s,"extra":1}`, id(second), result)
	<-second.Done
	if reply, err := second.Reply(); err != nil || string(reply.Result) != result {
		t.Errorf("%s %v", reply.Result, err)
	}
	select {
	case <-first.Done:
		t.Error("it was not the first's answer")
	default:
	}
	deliver(t, m, first, `{"jsonrpc":"2.0","id":"%s","result":{}}`, id(first)) // a string is another id
	deliver(t, m, nil, `{"jsonrpc":"2.0","error":{"code":-32700,"message":"what?"}}`)
	select {
	case <-first.Done:
		t.Error("neither names it")
	default:
	}
	deliver(t, m, first, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}`)
	<-first.Done
	if reply, _ := first.Reply(); string(reply.Error) != `{"code":-32700,"message":"what?"}` {
		t.Errorf("an error without an id concerns the call on whose stream it comes: %s", reply.Error)
	}
}

func TestProgressTokensAreReplacedAndRestored(t *testing.T) {
	for _, token := range []string{`"a \u00e9 \"b\""`, `12345678901234567890`, `""`, `1`} {
		m, _ := conversation(t, nil)
		e := &ear{}
		other := begin(t, m, `{"_meta":{"progressToken":1}}`, &ear{})
		c := begin(t, m, `{"a":1,"_meta":{"x":[ 1 ],"progressToken":`+token+`}}`, e)
		sent := jsonrpc.Get(c.Message, "params", "_meta", "progressToken")
		if string(sent) == token && token != id(c) || string(sent) == string(jsonrpc.Get(other.Message, "params", "_meta", "progressToken")) {
			t.Errorf("token %s went out as %s", token, sent)
		}
		if x := jsonrpc.Get(c.Message, "params", "_meta", "x"); string(x) != "[ 1 ]" {
			t.Errorf("other metadata changed: %s", x)
		}
		deliver(t, m, other, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":0.10}}`, sent) // on another's stream
		deliver(t, m, nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9999,"progress":1}}`)
		want := []string{`notifications/progress {"progressToken":` + token + `,"progress":0.10}`}
		if got := e.all(); !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	m, _ := conversation(t, nil)
	e := &ear{}
	c := begin(t, m, `{}`, e)
	deliver(t, m, c, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s}}`, id(c))
	if got := e.all(); len(got) > 0 {
		t.Errorf("who gave no token hears of no progress: %q", got)
	}
}

func TestNotificationsGoToTheCallOnWhoseStreamTheyComeElseToTheStandingListener(t *testing.T) {
	standing, e := &ear{}, &ear{}
	m, _ := conversation(t, standing)
	c := begin(t, m, `{}`, e)
	deaf := begin(t, m, `{}`, nil)
	note := `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}`
	deliver(t, m, c, note, 1)
	deliver(t, m, nil, note, 2)
	deliver(t, m, deaf, note, 3)
	deliver(t, m, nil, `{"jsonrpc":"2.0","method":"n","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, id(c))
	c.End()
	deliver(t, m, c, note, 4)
	if got := e.all(); len(got) != 2 || !strings.HasSuffix(got[0], `{"data":1}`) || !strings.HasPrefix(got[1], "n ") {
		t.Errorf("the call heard %q", got)
	}
	if got := standing.all(); len(got) != 1 || !strings.HasSuffix(got[0], `{"data":2}`) {
		t.Errorf("the standing listener heard %q", got)
	}
}

func TestACallHearsOneThingAtATimeAndNothingOnceItEnded(t *testing.T) {
	m, _ := conversation(t, nil)
	var unguarded int // the race detector looks after it
	c := begin(t, m, `{"_meta":{"progressToken":"t"}}`, counter(func() { unguarded++ }))
	var streams sync.WaitGroup
	for range 4 {
		streams.Go(func() {
			for range 200 {
				_ = m.Deliver(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s}}`, id(c)), nil)
			}
		})
	}
	c.End()
	after := unguarded
	streams.Wait()
	if unguarded != after {
		t.Error("it was told something after its end")
	}
}

type counter func()

func (f counter) Notification(string, json.RawMessage) { f() }
func (f counter) Request(context.Context, string, json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, nil
}

func TestTheServersRequestsAreAnswered(t *testing.T) {
	answering := func(name string) *ear {
		return &ear{ask: func(_ context.Context, method string) (json.RawMessage, *jsonrpc.Error) {
			if method == "refuse" {
				return nil, jsonrpc.Errorf(-32603, "no")
			}
			return json.RawMessage(`{"by":"` + name + `"}`), nil
		}}
	}
	m, answers := conversation(t, answering("standing"))
	c, deaf := begin(t, m, `{}`, answering("call")), begin(t, m, `{}`, nil)
	for _, test := range []struct {
		related       *mux.Call
		request, want string
	}{
		{c, `{"jsonrpc":"2.0","id":"x","method":"roots/list"}`, `{"jsonrpc":"2.0","id":"x","result":{"by":"call"}}`},
		{nil, `{"jsonrpc":"2.0","id":12345678901234567890,"method":"roots/list"}`, `{"jsonrpc":"2.0","id":12345678901234567890,"result":{"by":"standing"}}`},
		{c, `{"jsonrpc":"2.0","id":2,"method":"refuse"}`, `{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"no"}}`},
		{deaf, `{"jsonrpc":"2.0","id":3,"method":"ping"}`, `{"jsonrpc":"2.0","id":3,"result":{}}`},
		{deaf, `{"jsonrpc":"2.0","id":4,"method":"roots/list"}`, `{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"nobody can be asked now; Method not found: roots/list"}}`},
	} {
		deliver(t, m, test.related, "%s", test.request)
		if got := <-answers; got != test.want {
			t.Errorf("%s: %s, want %s", test.request, got, test.want)
		}
	}
}

func TestARequestThatTheServerCancelsEndsWithoutAnAnswer(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan struct{})
	m, answers := conversation(t, &ear{ask: func(ctx context.Context, _ string) (json.RawMessage, *jsonrpc.Error) {
		close(asked)
		<-ctx.Done()
		close(ended)
		return nil, jsonrpc.Errorf(-1, "cancelled")
	}})
	deliver(t, m, nil, `{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`)
	<-asked
	deliver(t, m, nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"other"}}`)
	deliver(t, m, nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}`)
	<-ended
	m.Fail(upstream.ErrClosed)
	m.Wait()
	if len(answers) != 0 {
		t.Errorf("it was answered: %s", <-answers)
	}
}

func TestAQuestionEndsWithItsCall(t *testing.T) {
	m, answers := conversation(t, nil)
	asked := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := m.Begin(ctx, upstream.Request{Method: "tools/call"}, &ear{ask: func(ctx context.Context, _ string) (json.RawMessage, *jsonrpc.Error) {
		close(asked)
		<-ctx.Done()
		return nil, jsonrpc.Errorf(-1, "the call is over")
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.End()
	deliver(t, m, c, `{"jsonrpc":"2.0","id":1,"method":"elicitation/create"}`)
	<-asked
	cancel()
	if got := <-answers; !strings.Contains(got, "the call is over") {
		t.Error(got)
	}
}

func TestTheServersRequestsAreBounded(t *testing.T) {
	free := make(chan struct{})
	var most, now int
	var mu sync.Mutex
	m, answers := conversation(t, &ear{ask: func(context.Context, string) (json.RawMessage, *jsonrpc.Error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-free
		mu.Lock()
		now--
		mu.Unlock()
		return json.RawMessage(`{}`), nil
	}})
	for i := range 500 {
		deliver(t, m, nil, `{"jsonrpc":"2.0","id":%d,"method":"roots/list"}`, i)
	}
	for range 400 {
		if got := <-answers; !strings.Contains(got, "nobody can be asked now") {
			t.Fatal(got)
		}
	}
	close(free)
	for range 100 {
		if got := <-answers; !strings.Contains(got, `"result":{}`) {
			t.Fatal(got)
		}
	}
	if most > 100 {
		t.Errorf("%d were worked on at once", most)
	}
}

// A server that takes no answer to its ping must not hold the call on whose stream the ping came.
func TestAnAnswerThatTheServerDoesNotTakeEndsWithTheCall(t *testing.T) {
	m := mux.New(nil, func(ctx context.Context, _ []byte) error {
		<-ctx.Done()
		return ctx.Err()
	})
	defer m.Fail(upstream.ErrClosed)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := m.Begin(ctx, upstream.Request{Method: "tools/call"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.End()
	delivered := make(chan struct{})
	go func() {
		_ = m.Deliver([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), c)
		close(delivered)
	}()
	cancel()
	<-delivered
}

func TestBatchesAreTakenApart(t *testing.T) {
	m, answers := conversation(t, nil)
	e := &ear{}
	a, b := begin(t, m, `{}`, e), begin(t, m, `{}`, nil)
	deliver(t, m, a, ` [{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":7,"method":"ping"},{"jsonrpc":"2.0","id":%s,"result":{}},{"jsonrpc":"2.0","id":%s,"result":{}}]`, id(b), id(a))
	<-a.Done
	<-b.Done
	if len(e.all()) != 1 || len(answers) != 1 {
		t.Errorf("%q, %d answers", e.all(), len(answers))
	}
	for _, bad := range []string{`[]`, `[1]`, `[{"jsonrpc":"1.0"}]`, `[[]]`} {
		if err := m.Deliver([]byte(bad), a); !errors.Is(err, upstream.ErrRefused) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAfterTheEndNothingIsSent(t *testing.T) {
	m, _ := conversation(t, nil)
	c := begin(t, m, `{}`, nil)
	m.Fail(fmt.Errorf("%w: the stream broke", upstream.ErrLost))
	<-c.Done
	if _, err := c.Reply(); !errors.Is(err, upstream.ErrLost) {
		t.Errorf("the call under way: %v", err)
	}
	_, err := m.Begin(t.Context(), upstream.Request{Method: "ping"}, nil)
	if !errors.Is(err, upstream.ErrSessionGone) || errors.Is(err, upstream.ErrLost) {
		t.Errorf("a later call was not carried out for sure: %v", err)
	}
	m, _ = conversation(t, nil)
	m.Fail(upstream.ErrClosed)
	if _, err = m.Begin(t.Context(), upstream.Request{Method: "ping"}, nil); !errors.Is(err, upstream.ErrNotSent) || !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCancelledNamesTheCallAsTheServerKnowsIt(t *testing.T) {
	m, _ := conversation(t, nil)
	begin(t, m, `{}`, nil)
	c := begin(t, m, `{}`, nil)
	if got := string(c.Cancelled("why")); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id(c)+`,"reason":"why"}}` {
		t.Error(got)
	}
}

// FuzzDeliver: whatever a server sends, the conversation goes on: a call is answered by its answer, and all ends.
func FuzzDeliver(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":-0,"error":{}}`, `[{"jsonrpc":"2.0","id":"1","method":"ping"}]`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`,
		`{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`,
		`{"jsonrpc":"2.0","method":"n","params":{"_meta":[]}}`, "\x00", `[`, `{"jsonrpc":"2.0","id":null,"error":{}}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, onStream bool) {
		e := &ear{ask: func(context.Context, string) (json.RawMessage, *jsonrpc.Error) { return json.RawMessage(`{}`), nil }}
		m := mux.New(e, func(_ context.Context, message []byte) error {
			if _, err := jsonrpc.Parse(message); err != nil {
				t.Errorf("answered with %q: %v", message, err)
			}
			return nil
		})
		c := begin(t, m, `{"_meta":{"progressToken":"t"}}`, e)
		var related *mux.Call
		if onStream {
			related = c
		}
		_ = m.Deliver(data, related)
		deliver(t, m, related, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id(c))
		<-c.Done
		m.Fail(upstream.ErrClosed)
		m.Wait()
	})
}
