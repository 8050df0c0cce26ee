package mcpio_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcpio"
)

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`

// official starts a program of the official SDK that is spoken to in the modern era.
func official(t *testing.T, server *mcp.Server, config mcpio.Config) *mcpio.Conn {
	hereIn, thereOut := io.Pipe()
	thereIn, hereOut := io.Pipe()
	session, err := server.Connect(t.Context(), &mcp.IOTransport{Reader: thereIn, Writer: thereOut}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := mcpio.New(pipes{hereIn, hereOut}, config)
	t.Cleanup(func() {
		_ = c.Close()
		_ = session.Wait()
	})
	return c
}

func TestAModernProgramOfTheOfficialSDKLogsToTheCallThatAsked(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "log", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "warning", Data: "heard"}); err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(r.Params.Arguments)}}}, nil
	})
	var astray []string
	c := official(t, server, mcpio.Config{Listener: ear{told: func(method string, _ json.RawMessage) { astray = append(astray, method) }}})
	for level, want := range map[string]int{`,"io.modelcontextprotocol/logLevel":"info"`: 1, "": 0} {
		var logs []string
		got := <-call(t.Context(), c, "tools/call", `{"name":"log","arguments":{"n":12345678901234567890},`+meta+level+`}}`, ear{told: func(method string, params json.RawMessage) {
			logs = append(logs, method+string(params))
		}})
		if got.err != nil || !strings.Contains(string(got.reply.Result), `{\"n\":12345678901234567890}`) {
			t.Fatalf("%s %s %v", got.reply.Result, got.reply.Error, got.err)
		}
		if len(logs) != want || want > 0 && !strings.Contains(logs[0], `"heard"`) {
			t.Errorf("with %q: %q", level, logs)
		}
	}
	if len(astray) > 0 {
		t.Errorf("the standing listener heard %q", astray)
	}
}

func TestAModernProgramOfTheOfficialSDKIsListenedTo(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	tool := &mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)}
	server.AddTool(tool, nil)
	c := official(t, server, mcpio.Config{})
	heard := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := call(ctx, c, "subscriptions/listen", `{"notifications":{"toolsListChanged":true},`+meta+`}}`, ear{told: func(method string, _ json.RawMessage) { heard <- method }})
	if got := <-heard; got != "notifications/subscriptions/acknowledged" {
		t.Fatal(got)
	}
	server.RemoveTools("new")
	if got := <-heard; got != "notifications/tools/list_changed" {
		t.Error(got)
	}
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) {
		t.Error(got.err)
	}
	if got := <-call(t.Context(), c, "tools/list", `{`+meta+`}}`, nil); got.err != nil { // the conversation goes on
		t.Error(got.err)
	}
}

// The specification has a server that ends a subscription say so by notifications/cancelled.
func TestASubscriptionThatTheProgramEndsIsOver(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	done := call(t.Context(), c, "subscriptions/listen", `{"notifications":{},`+meta+`}}`, nil)
	m := p.hear()
	p.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, m.ID)
	if got := <-done; !errors.Is(got.err, upstream.ErrLost) {
		t.Error(got.err)
	}
	next := call(t.Context(), c, "tools/list", `{}`, nil)
	if _, err := p.Write(append(jsonrpc.Response(p.hear().ID, json.RawMessage(`{}`)), '\n')); err != nil {
		t.Fatal(err)
	}
	if got := <-next; got.err != nil {
		t.Error(got.err)
	}
}
