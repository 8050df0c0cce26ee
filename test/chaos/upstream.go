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
	mu    sync.Mutex
	count map[string]int
}

// arguments of the upstream's tools.
type arguments struct {
	// Call is unique to the call.
	Call string `json:"call"`
	// Steps are taken before the answer, each MS milliseconds long and each reported as progress.
	Steps int `json:"steps"`
	MS    int `json:"ms"`
}

// serve starts the upstream and gives its URL.
func (u *upstream) serve(t *testing.T, o *mcp.StreamableHTTPOptions) string {
	server := mcp.NewServer(&mcp.Implementation{Name: "counter", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "read", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, u.carryOut)
	mcp.AddTool(server, &mcp.Tool{Name: "put", Annotations: &mcp.ToolAnnotations{IdempotentHint: true}}, u.carryOut)
	mcp.AddTool(server, &mcp.Tool{Name: "write"}, u.carryOut)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, o)
	site := httptest.NewServer(handler)
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	return site.URL
}

func (u *upstream) carryOut(ctx context.Context, r *mcp.CallToolRequest, a arguments) (*mcp.CallToolResult, any, error) {
	u.mu.Lock()
	u.count[a.Call]++
	n := u.count[a.Call]
	u.mu.Unlock()
	for step := range a.Steps {
		time.Sleep(time.Duration(a.MS) * time.Millisecond) // the work; it goes on whoever hears of it
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(step + 1)})
		}
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("%s done %d", a.Call, n)}}}, nil, nil
}

// executed is how often a call was carried out.
func (u *upstream) executed(call string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count[call]
}
