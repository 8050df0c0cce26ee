package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/test/cluster"
)

// sdk is a client of the official Go SDK. When its connection is of no more use it makes another one.
type sdk struct {
	kind, view, version string
	transport           func() mcp.Transport
	client              *mcp.Client
	session             *mcp.ClientSession
	calls               int

	mu    sync.Mutex
	heard chan float64 // the progress of the call under way
}

// Kinds of clients of the SDK.
const (
	// sdkSSE has no way back to its session.
	sdkSSE   = "Go SDK, HTTP+SSE"
	sdkStdio = "Go SDK, stdio"
)

func newSDK(kind, view, version string, transport func() mcp.Transport) *sdk {
	c := &sdk{kind: kind, view: view, version: version, transport: transport}
	c.client = mcp.NewClient(&mcp.Implementation{Name: "chaos", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: c.progressed, ElicitationHandler: answerBack,
	})
	return c
}

// newSDKHTTP is a client of Streamable HTTP behind the balancer.
func newSDKHTTP(c *cluster.Cluster, view, version string) *sdk {
	return newSDK("Go SDK", view, version, func() mcp.Transport { return &mcp.StreamableClientTransport{Endpoint: c.URL(view)} })
}

// newSDKSSE is a client of HTTP+SSE behind the balancer.
func newSDKSSE(c *cluster.Cluster, view, version string) *sdk {
	return newSDK(sdkSSE, view, version, func() mcp.Transport {
		return &mcp.SSEClientTransport{Endpoint: "http://" + c.API.Address() + "/sse/" + view}
	})
}

// newSDKStdio is a client that has a program of its own between it and the balancer.
func newSDKStdio(c *cluster.Cluster, binary, view, version string) *sdk {
	return newSDK(sdkStdio, view, version, func() mcp.Transport {
		return &mcp.CommandTransport{Command: exec.Command(binary, "stdio", "--connect", c.URL(view))}
	})
}

// answerBack answers a tool that asks back.
func answerBack(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
	return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"call": r.Params.Message}}, nil
}

func (c *sdk) name() string { return c.kind + " " + c.version }

func (c *sdk) at() string { return c.view }

// tools do not ask modern clients, nor by way of a server that keeps no session.
func (c *sdk) tools() []string {
	if c.version == modernVersion || c.view == "stateless" {
		return []string{"write", "write", "read", "put"}
	}
	return []string{"write", "write", "read", "put", asked}
}

func (c *sdk) close() {
	if c.session != nil {
		_ = c.session.Close()
	}
}

func (c *sdk) connect(ctx context.Context) error {
	if c.session != nil {
		return nil
	}
	session, err := c.client.Connect(context.WithoutCancel(ctx), c.transport(), &mcp.ClientSessionOptions{ProtocolVersion: c.version})
	if err != nil {
		return err
	}
	c.session = session
	return nil
}

// progressed hears of progress. What comes of a call before is not asked for any more.
func (c *sdk) progressed(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Params.ProgressToken == c.token() {
		c.heard <- r.Params.Progress
	}
}

func (c *sdk) token() any { return fmt.Sprintf("call%d", c.calls) }

// Of the errors that the SDK gives in the form of an answer:
const (
	// rejected is the code of its own error for a request that could not be sent over HTTP.
	rejected = -32005
	// unanswered is what a program between writes of a call whose connection broke.
	unanswered = " did not answer: "
)

// lagTime is how long the SDK takes at most to hand over a notification that came before an answer.
const lagTime = 5 * time.Second

func (c *sdk) call(ctx context.Context, tool string, a arguments, progress func(float64)) (string, error) {
	if err := c.connect(ctx); err != nil {
		return "", fmt.Errorf("%w: %w", errBroken, err)
	}
	c.mu.Lock()
	c.calls++
	c.heard = make(chan float64, 100)
	params := &mcp.CallToolParams{Name: tool, Arguments: a}
	params.SetProgressToken(c.token())
	c.mu.Unlock()
	result, err := c.session.CallTool(ctx, params)
	var no *jsonrpc.Error
	switch {
	case errors.As(err, &no) && no.Code != rejected && !strings.Contains(no.Message, unanswered):
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
	late := time.After(lagTime)
	for i := 0; i < a.Steps; i++ {
		select {
		case p := <-c.heard:
			progress(p)
		case <-late:
			i = a.Steps
		}
	}
	if len(result.Content) != 1 {
		return "", fmt.Errorf("%d pieces of content", len(result.Content))
	}
	text, _ := result.Content[0].(*mcp.TextContent)
	if text == nil {
		return "", errors.New("the content is no text")
	}
	if c.kind == sdkSSE && strings.Contains(text.Text, unheard) { // the SDK gave up this connection as it could not post
		c.close()
		c.session = nil
	}
	return text.Text, nil
}
