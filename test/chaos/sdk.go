package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// sdk is a client of the official Go SDK. When its connection is of no more use it makes another one.
type sdk struct {
	url, version string
	session      *mcp.ClientSession
}

func newSDK(url, version string) *sdk { return &sdk{url: url, version: version} }

func (c *sdk) name() string { return "Go SDK " + c.version }

func (c *sdk) close() {
	if c.session != nil {
		_ = c.session.Close()
	}
}

func (c *sdk) connect(ctx context.Context) error {
	if c.session != nil {
		return nil
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "chaos", Version: "1"}, nil)
	session, err := client.Connect(context.WithoutCancel(ctx), &mcp.StreamableClientTransport{Endpoint: c.url}, &mcp.ClientSessionOptions{ProtocolVersion: c.version})
	if err != nil {
		return err
	}
	c.session = session
	return nil
}

// rejected is the code of the SDK's own error for a request that could not be sent over HTTP.
const rejected = -32005

func (c *sdk) call(ctx context.Context, tool string, a arguments, progress func(float64)) (string, error) {
	if err := c.connect(ctx); err != nil {
		return "", fmt.Errorf("%w: %w", errBroken, err)
	}
	for i := range a.Steps { // the SDK hands notifications over in no order; raw clients look at them
		progress(float64(i + 1))
	}
	result, err := c.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: a})
	var no *jsonrpc.Error
	switch {
	case errors.As(err, &no) && no.Code != rejected:
		o := struct {
			Outcome string `json:"dev.erlmcp/outcome"`
		}{}
		_ = json.Unmarshal(no.Data, &o) // without it the error says nothing of the outcome
		return "", &refusedError{o.Outcome, no.Message}
	case err != nil:
		c.close()
		c.session = nil
		return "", fmt.Errorf("%w: %w", errBroken, err)
	}
	if len(result.Content) != 1 {
		return "", fmt.Errorf("%d pieces of content", len(result.Content))
	}
	text, _ := result.Content[0].(*mcp.TextContent)
	if text == nil {
		return "", errors.New("the content is no text")
	}
	return text.Text, nil
}
