package gateway_test

import (
	"context"
	"encoding/json"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// stage is a server whose calls go on when a test says so.
type stage struct {
	// step lets a call of "count" report its next progress.
	step chan struct{}
	// held tells that a call of "hold" began, ended why it ended.
	held  chan struct{}
	ended chan error
	// visited is closed once the user of "link" has been where it sends them.
	visited chan struct{}
	// roots tells that a client's roots changed.
	roots chan struct{}
}

// newStage runs a server of one era.
func newStage(t *testing.T, name string, modern bool) (*stage, *registryv1.Server) {
	st := &stage{step: make(chan struct{}), held: make(chan struct{}, 10), ended: make(chan error, 10), roots: make(chan struct{}, 10), visited: make(chan struct{})}
	options := &sdk.ServerOptions{RootsListChangedHandler: func(context.Context, *sdk.RootsListChangedRequest) { st.roots <- struct{}{} }}
	if !modern {
		options.SupportedProtocolVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}
	}
	server := sdk.NewServer(&sdk.Implementation{Name: name, Version: "1"}, options)
	schema := json.RawMessage(`{"type":"object"}`)
	server.AddTool(&sdk.Tool{Name: "count", Description: "Counts, one number a step.", InputSchema: schema}, st.count)
	server.AddTool(&sdk.Tool{Name: "hold", Description: "Takes until it is cancelled.", InputSchema: schema}, st.hold)
	server.AddTool(&sdk.Tool{Name: "ask", Description: "Asks its user's name, and says how that went.", InputSchema: schema}, st.ask)
	server.AddTool(&sdk.Tool{Name: "link", Description: "Works once its user has visited a page.", InputSchema: schema}, st.link)
	return st, spoken(t, name, server, &sdk.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: modern})
}

// count reports progress 1, 2, 3 and so on.
func (st *stage) count(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	var args struct{ To int }
	if err := json.Unmarshal(req.Params.Arguments, &args); err != nil {
		return nil, err
	}
	for i := range args.To {
		select {
		case <-st.step:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)}); err != nil {
			return nil, err
		}
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "counted"}}}, nil
}

func (st *stage) hold(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	st.held <- struct{}{}
	<-ctx.Done()
	st.ended <- ctx.Err()
	return nil, ctx.Err()
}

// ask tells why it ended.
func (st *stage) ask(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	_, _ = req.Session.Elicit(ctx, &sdk.ElicitParams{Message: "your name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)})
	<-ctx.Done()
	st.ended <- ctx.Err()
	return nil, ctx.Err()
}

func (st *stage) link(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	select {
	case <-st.visited:
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "linked"}}}, nil
	default:
		return nil, sdk.URLElicitationRequiredError([]*sdk.ElicitParams{{Mode: "url", URL: "https://example.com/link", Message: "Link your account.", ElicitationID: "1"}})
	}
}

// steps lets a call of "count" take a number of steps.
func (st *stage) steps(t *testing.T, n int) {
	for range n {
		select {
		case st.step <- struct{}{}:
		case <-t.Context().Done():
			return
		}
	}
}
