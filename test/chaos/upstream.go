package chaos

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// upstream is an MCP server that counts how often it carried out each call. It is the one part that nobody harms.
type upstream struct {
	mu        sync.Mutex
	count     map[string]int
	followers map[string]*mcp.ServerSession // by the name that each gave
}

func newUpstream() *upstream {
	return &upstream{count: map[string]int{}, followers: map[string]*mcp.ServerSession{}}
}

// arguments of the upstream's tools.
type arguments struct {
	// Call is unique to the call.
	Call string `json:"call"`
	// Steps are taken before the answer, each MS milliseconds long and each reported as progress.
	Steps int `json:"steps"`
	MS    int `json:"ms"`

	key string // an idempotency key; empty for none
}

// meta is what the key adds to a request's _meta.
func (a arguments) meta() string {
	if a.key == "" {
		return ""
	}
	return fmt.Sprintf(`,"dev.erlmcp/idempotencyKey":%q`, a.key)
}

// serve starts the upstream and gives its URL.
func (u *upstream) serve(t *testing.T, o *mcp.StreamableHTTPOptions) string {
	server := mcp.NewServer(&mcp.Implementation{Name: "counter", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "read", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, u.carryOut)
	mcp.AddTool(server, &mcp.Tool{Name: "put", Annotations: &mcp.ToolAnnotations{IdempotentHint: true}}, u.carryOut)
	mcp.AddTool(server, &mcp.Tool{Name: "write"}, u.carryOut)
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, u.ask)
	mcp.AddTool(server, &mcp.Tool{Name: "follow"}, u.follow)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, o)
	site := httptest.NewServer(handler)
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	return site.URL
}

func (u *upstream) begin(call string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count[call]++
	return u.count[call]
}

func result(call string, n int) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("%s done %d", call, n)}}}
}

func (u *upstream) carryOut(ctx context.Context, r *mcp.CallToolRequest, a arguments) (*mcp.CallToolResult, any, error) {
	n := u.begin(a.Call)
	for step := range a.Steps {
		time.Sleep(time.Duration(a.MS) * time.Millisecond) // the work; it goes on whoever hears of it
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(step + 1)})
		}
	}
	return result(a.Call, n), nil, nil
}

// askTime is how long a client may take to answer: one that is gone does not.
const askTime = 30 * time.Second

// unheard is what the tool says whose client did not answer.
const unheard = "the client did not answer"

// ask asks the client back before it answers.
func (u *upstream) ask(ctx context.Context, r *mcp.CallToolRequest, a arguments) (*mcp.CallToolResult, any, error) {
	n := u.begin(a.Call)
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: a.Call, RequestedSchema: map[string]any{
		"type": "object", "properties": map[string]any{"call": map[string]any{"type": "string"}},
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", unheard, err)
	}
	if answer.Action != "accept" || answer.Content["call"] != a.Call {
		return nil, nil, fmt.Errorf("asked for %s, and was answered %s %v", a.Call, answer.Action, answer.Content)
	}
	return result(a.Call, n), nil, nil
}

// follow remembers who wants to hear what is said outside of calls.
func (u *upstream) follow(_ context.Context, r *mcp.CallToolRequest, a arguments) (*mcp.CallToolResult, any, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.followers[a.Call] = r.Session
	return result(a.Call, 1), nil, nil
}

// say tells a follower a number outside of any call. It fails where nobody listens and the server keeps nothing.
func (u *upstream) say(ctx context.Context, follower string, number int) error {
	u.mu.Lock()
	session := u.followers[follower]
	u.mu.Unlock()
	return session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: number})
}

// executed is how often a call was carried out.
func (u *upstream) executed(call string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count[call]
}
