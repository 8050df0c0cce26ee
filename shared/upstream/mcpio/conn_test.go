package mcpio_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcpio"
)

// ear is a listener made of functions; nil ones drop and refuse.
type ear struct {
	told func(method string, params json.RawMessage)
	ask  func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error)
}

func (e ear) Notification(method string, params json.RawMessage) {
	if e.told != nil {
		e.told(method, params)
	}
}

func (e ear) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	if e.ask == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "nobody")
	}
	return e.ask(ctx, method, params)
}

// program is the server's end of a conversation, played by the test.
type program struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

// hear reads the next message.
func (p *program) hear() jsonrpc.Message {
	p.t.Helper()
	line, err := p.in.ReadBytes('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := jsonrpc.Parse(line)
	if err != nil {
		p.t.Fatalf("%q: %v", line, err)
	}
	return m
}

func (p *program) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.Conn, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

func start(t *testing.T, config mcpio.Config) (*mcpio.Conn, *program) {
	ours, theirs := net.Pipe()
	c := mcpio.New(ours, config)
	t.Cleanup(func() { _ = c.Close(); _ = theirs.Close() })
	return c, &program{t, theirs, bufio.NewReader(theirs)}
}

type outcome struct {
	reply upstream.Reply
	err   error
}

func call(ctx context.Context, peer upstream.Peer, method, params string, from upstream.Listener) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		reply, err := peer.Call(ctx, upstream.Request{Method: method, Params: json.RawMessage(params)}, from)
		done <- outcome{reply, err}
	}()
	return done
}

func TestAProgramOfTheOfficialSDKIsCalledAndAsksBack(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1}); err != nil {
			return nil, err
		}
		sampled, err := r.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 1})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{sampled.Content}}, nil
	})
	hereIn, thereOut := io.Pipe()
	thereIn, hereOut := io.Pipe()
	session, err := server.Connect(t.Context(), &mcp.IOTransport{Reader: thereIn, Writer: thereOut}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := mcpio.New(pipes{hereIn, hereOut}, mcpio.Config{Listener: ear{ask: func(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
		return json.RawMessage(`{"role":"assistant","model":"m","content":{"type":"text","text":"` + method + `"}}`), nil
	}}})
	result, err := c.Initialize(t.Context(), "2025-11-25", json.RawMessage(`{"sampling":{}}`), nil)
	if name, _ := jsonrpc.GetString(result, "serverInfo", "name"); err != nil || name != "s" {
		t.Fatalf("%s, %v", result, err)
	}
	var progress []string
	got := <-call(t.Context(), c, "tools/call", `{"name":"ask","arguments":{},"_meta":{"progressToken":"mine"}}`, ear{told: func(_ string, params json.RawMessage) {
		progress = append(progress, string(jsonrpc.Get(params, "progressToken")))
	}})
	if got.err != nil || !strings.Contains(string(got.reply.Result), `"text":"sampling/createMessage"`) {
		t.Errorf("%s, %s, %v", got.reply.Result, got.reply.Error, got.err)
	}
	if len(progress) != 1 || progress[0] != `"mine"` {
		t.Errorf("progress for %q", progress)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_ = session.Wait() // the program ends with its input
	if _, err := c.Call(t.Context(), upstream.Request{Method: "ping"}, nil); !errors.Is(err, upstream.ErrNotSent) {
		t.Errorf("after Close: %v", err)
	}
}

type pipes struct {
	*io.PipeReader
	*io.PipeWriter
}

func (p pipes) Close() error { return errors.Join(p.PipeWriter.Close(), p.PipeReader.Close()) }

func TestWhatAProgramPrintsBesidesMessagesIsPassedOver(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	done := call(t.Context(), c, "tools/call", `{}`, nil)
	m := p.hear()
	p.say("starting up...\n\n{\"json\": true}\n[]\n\xff\n%s\r", strings.Repeat("long ", 50_000))
	p.say(`{"jsonrpc":"2.0","id":%s,"result":{"n": 12345678901234567890}}`+"\r", m.ID)
	if got := <-done; got.err != nil || string(got.reply.Result) != `{"n": 12345678901234567890}` {
		t.Errorf("%s, %v", got.reply.Result, got.err)
	}
}

func TestAMessageIsOneLineHoweverTheClientWroteIt(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	done := call(t.Context(), c, "tools/call", "{\r\n  \"name\": \"a\\nb\",\n  \"arguments\": {\n    \"x\": 1\n  }\n}", nil)
	m := p.hear()
	if name, _ := jsonrpc.GetString(m.Params, "name"); name != "a\nb" || string(jsonrpc.Get(m.Params, "arguments", "x")) != "1" {
		t.Errorf("%s", m.Params)
	}
	p.say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
}

func TestEndingTheContextTellsTheProgram(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := call(ctx, c, "tools/call", `{}`, nil)
	m := p.hear()
	why := errors.New("the client left")
	cancel(why)
	if got := <-done; !errors.Is(got.err, why) {
		t.Error(got.err)
	}
	if told := p.hear(); told.Method != "notifications/cancelled" || string(jsonrpc.Get(told.Params, "requestId")) != string(m.ID) {
		t.Errorf("%s %s", told.Method, told.Params)
	}
	p.say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID) // too late, and no harm
	done = call(t.Context(), c, "ping", `{}`, nil)
	p.say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, p.hear().ID)
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
}

func TestAProgramThatEndsLosesItsCallsAndGetsNoMore(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	done := call(t.Context(), c, "tools/call", `{}`, nil)
	p.hear()
	_ = p.Conn.Close()
	if got := <-done; !errors.Is(got.err, upstream.ErrLost) {
		t.Errorf("the call under way: %v", got.err)
	}
	<-c.Done()
	if _, err := c.Call(t.Context(), upstream.Request{Method: "ping"}, nil); !errors.Is(err, upstream.ErrSessionGone) {
		t.Errorf("a later call was surely not carried out: %v", err)
	}
	if err := c.Notify(t.Context(), "n", nil); !errors.Is(err, upstream.ErrSessionGone) {
		t.Error(err)
	}
}

func TestALineBeyondTheLimitEndsTheConversation(t *testing.T) {
	c, p := start(t, mcpio.Config{MaxLine: 100_000})
	done := call(t.Context(), c, "tools/call", `{}`, nil)
	m := p.hear()
	go func() {
		_, _ = fmt.Fprintf(p.Conn, `{"jsonrpc":"2.0","id":%s,"result":{"x":"%s`, m.ID, strings.Repeat("x", 200_000))
	}()
	if got := <-done; !errors.Is(got.err, upstream.ErrTooLarge) {
		t.Error(got.err)
	}
	<-c.Done()
}

func TestAProgramThatReadsNothingGetsNoMoreCallsThanTheQueueHolds(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	var waiting []<-chan outcome
	for range 300 {
		waiting = append(waiting, call(t.Context(), c, "tools/call", `{}`, nil))
	}
	// Ended contexts find room in the queue, or none; soon there is none.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for refused := false; !refused; {
		got := <-call(over, c, "tools/call", `{}`, nil)
		refused = errors.Is(got.err, upstream.ErrNotSent)
		if !refused && !errors.Is(got.err, context.Canceled) {
			t.Fatal(got.err)
		}
	}
	_ = p.Conn.Close()
	for _, done := range waiting {
		if got := <-done; !errors.Is(got.err, upstream.ErrLost) && !errors.Is(got.err, upstream.ErrSessionGone) {
			t.Fatal(got.err)
		}
	}
}

// A program that floods us with pings, and closes its input, must not leave calls waiting for ever.
func TestAProgramThatStopsReadingWhileItTalksEndsTheConversation(t *testing.T) {
	toUs, theirs := io.Pipe()
	c := mcpio.New(half{toUs, new(atomic.Bool)}, mcpio.Config{})
	defer c.Close()
	done := call(t.Context(), c, "tools/call", `{}`, nil)
	go func() {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(theirs, `{"jsonrpc":"2.0","id":%d,"method":"ping"}`+"\n", i); err != nil {
				return
			}
		}
	}()
	if got := <-done; !errors.Is(got.err, upstream.ErrLost) {
		t.Error(got.err)
	}
	<-c.Done()
}

// half is a stream that can be read, and takes nothing from the first call on.
type half struct {
	*io.PipeReader
	shut *atomic.Bool
}

func (h half) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("tools/call")) {
		h.shut.Store(true)
	}
	if h.shut.Load() {
		return 0, io.ErrClosedPipe
	}
	return len(line), nil
}

func TestCloseEndsCallsAndQuestions(t *testing.T) {
	asked := make(chan struct{})
	c, p := start(t, mcpio.Config{Listener: ear{ask: func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
		close(asked)
		<-ctx.Done()
		return nil, jsonrpc.Errorf(-1, "closed")
	}}})
	done := call(t.Context(), c, "tools/call", `{}`, nil)
	p.hear()
	p.say(`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
	<-asked
	_ = c.Close()
	if got := <-done; !errors.Is(got.err, upstream.ErrClosed) {
		t.Error(got.err)
	}
}

func TestInitializeRefusesARevisionThatIsNotKnown(t *testing.T) {
	for _, answer := range []string{`"result":{"protocolVersion":"1999-01-01"}`, `"error":{"code":-32602,"message":"no"}`, `"result":{}`} {
		c, p := start(t, mcpio.Config{})
		go func() {
			line, _ := p.in.ReadBytes('\n')
			_, _ = fmt.Fprintf(p.Conn, `{"jsonrpc":"2.0","id":%s,%s}`+"\n", jsonrpc.Get(line, "id"), answer)
		}()
		if _, err := c.Initialize(t.Context(), "2025-11-25", nil, nil); !errors.Is(err, upstream.ErrRefused) {
			t.Errorf("%s: %v", answer, err)
		}
	}
}
