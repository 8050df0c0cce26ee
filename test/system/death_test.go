package system

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// A legacy session goes on at another gateway when its gateway is killed, and at another owner when its owner is.
func TestASessionOutlivesItsGatewayAndItsOwner(t *testing.T) {
	upstream := cluster.RunFixtures(t, fixtures, "dual")
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: "servers:\n  - {name: dual, url: \"" + upstream.URL + "\", prefix: \"\"}\n"}, cluster.Layout{})
	testkit.Eventually(t, func() bool {
		_, body, err := c.Gateways[0].Get(t.Context(), "/status")
		return err == nil && !strings.Contains(body, `"catalog_version": 0`)
	}, 20*time.Second)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: c.URL("")}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "test_simple_text"})
		if err == nil && result.IsError {
			err = fmt.Errorf("the tool failed: %v", result.Content)
		}
		return err
	}
	testkit.Eventually(t, call, 20*time.Second)

	c.Gateways[0].Kill()
	testkit.Eventually(t, call, 5*time.Second)
	if err := c.Gateways[0].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, owner := range c.Sessions { // one of them has the session
		owner.Kill()
		testkit.Eventually(t, call, 20*time.Second)
		if err := owner.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, call, 20*time.Second)
	}
}
