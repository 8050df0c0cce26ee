package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// WaitForTool waits until the endpoint lists a tool. A gateway can serve before it knows what its upstream servers
// offer, and the suite would take that for a server without tools.
func WaitForTool(ctx context.Context, url, tool string) error {
	for {
		err := listed(ctx, url, tool)
		if err == nil {
			return nil
		}
		retry := time.NewTimer(50 * time.Millisecond)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return fmt.Errorf("%s does not list the tool %s: %w", url, tool, err)
		}
	}
}

func listed(ctx context.Context, url, tool string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(list)))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list",
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"`+tool+`"`)) {
		return fmt.Errorf("it answers %d: %.300s", resp.StatusCode, body)
	}
	return nil
}
