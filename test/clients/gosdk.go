package clients

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goErrand runs the errand with the official Go SDK, which is offered only revisions up to newest.
func goErrand(newest string) func(context.Context, ...string) (Seen, error) {
	return func(ctx context.Context, target ...string) (Seen, error) {
		var mu sync.Mutex
		var progress []float64
		reported := make(chan struct{}, 100)
		client := mcp.NewClient(&mcp.Implementation{Name: "errand", Version: "1"}, &mcp.ClientOptions{
			ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: fill(req.Params)}, nil
			},
			CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
				return &mcp.CreateMessageResult{Role: "assistant", Model: "none", Content: &mcp.TextContent{Text: "Paris"}}, nil
			},
			ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
				mu.Lock()
				progress = append(progress, req.Params.Progress)
				mu.Unlock()
				reported <- struct{}{}
			},
		})
		var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: target[0]}
		if !strings.HasPrefix(target[0], "http") {
			transport = &mcp.CommandTransport{Command: exec.CommandContext(ctx, target[0], target[1:]...)}
		}
		session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: newest})
		if err != nil {
			return Seen{}, err
		}
		defer session.Close()
		if got := session.InitializeResult().ProtocolVersion; got != newest {
			return Seen{}, fmt.Errorf("negotiated %s, want %s", got, newest)
		}
		seen, err := goSteps(ctx, session)
		if err != nil {
			return seen, err
		}
		for range seen.Progress { // notifications may be handled after the result
			select {
			case <-reported:
			case <-ctx.Done():
				return seen, fmt.Errorf("waiting for progress: %w", ctx.Err())
			}
		}
		mu.Lock()
		defer mu.Unlock()
		seen.Progress = slices.Sorted(slices.Values(progress))
		return seen, nil
	}
}

// goSteps runs the errand's steps. It leaves in Progress as many places as notifications are to come.
func goSteps(ctx context.Context, session *mcp.ClientSession) (seen Seen, err error) {
	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		return seen, err
	}
	prompts, err := session.ListPrompts(ctx, nil)
	if err != nil {
		return seen, err
	}
	resources, err := session.ListResources(ctx, nil)
	if err != nil {
		return seen, err
	}
	seen.Tools, seen.Prompts, seen.Resources = len(tools.Tools), len(prompts.Prompts), len(resources.Resources)
	call := func(name string, args map[string]any) (string, bool) {
		if err != nil {
			return "", false
		}
		params := &mcp.CallToolParams{Name: name, Arguments: args}
		params.SetProgressToken("token of " + name)
		var result *mcp.CallToolResult
		if result, err = session.CallTool(ctx, params); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return "", false
		}
		return join(result.Content), result.IsError
	}
	seen.Simple, _ = call("test_simple_text", nil)
	seen.Asked, _ = call("test_input_required_result_multi_round", nil)
	seen.Sampled, _ = call("test_sampling", map[string]any{"prompt": "Which town?"})
	_, seen.Failed = call("test_error_handling", nil)
	_, _ = call("test_tool_with_progress", nil)
	seen.Progress = make([]float64, 3)
	if err != nil {
		return seen, err
	}
	read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "test://static-text"})
	if err != nil {
		return seen, err
	}
	seen.Resource = read.Contents[0].Text
	prompt, err := session.GetPrompt(ctx, &mcp.GetPromptParams{
		Name: "test_prompt_with_arguments", Arguments: map[string]string{"arg1": "hello", "arg2": "world"},
	})
	if err != nil {
		return seen, err
	}
	seen.Prompt = join([]mcp.Content{prompt.Messages[0].Content})
	return seen, nil
}

// fill answers the fields that a form requires.
func fill(form *mcp.ElicitParams) map[string]any {
	known := map[string]any{"name": "Alice", "color": "blue"}
	filled := map[string]any{}
	schema, _ := form.RequestedSchema.(map[string]any)
	required, _ := schema["required"].([]any)
	for _, field := range required {
		if name, ok := field.(string); ok {
			filled[name] = known[name]
		}
	}
	return filled
}

func join(content []mcp.Content) string {
	var lines []string
	for _, c := range content {
		if block, ok := c.(*mcp.TextContent); ok {
			lines = append(lines, block.Text)
		}
	}
	return strings.Join(lines, "\n")
}
