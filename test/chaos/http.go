package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/sse"
)

// raw is a client of Streamable HTTP that knows what the specification says and no more: a legacy one resumes broken
// streams with Last-Event-ID. No connection is used twice.
type raw struct {
	url, version string
	view         string
	http         *http.Client
	session      string
	id           int
}

const modernVersion = "2026-07-28"

func newRaw(ctx context.Context, url, version string) (*raw, error) {
	c := &raw{url: url, version: version, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if version == modernVersion {
		return c, nil
	}
	response, err := c.post(ctx, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+version+`","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`, "", "")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if c.session = response.Header.Get("Mcp-Session-Id"); c.session == "" {
		return nil, fmt.Errorf("initialize: %w", statusOf(response))
	}
	return c, nil
}

// statusError is an HTTP response that refuses.
type statusError struct {
	code       int
	retryAfter string
	body       string
}

func statusOf(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 300))
	return &statusError{response.StatusCode, response.Header.Get("Retry-After"), string(body)}
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.body) }

func (c *raw) name() string { return "raw " + c.version }

func (c *raw) at() string { return c.view }

func (c *raw) tools() []string { return []string{"write", "write", "read", "put", keyed} }

func (c *raw) close() { c.http.CloseIdleConnections() }

func (c *raw) post(ctx context.Context, body, method, tool string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.version == modernVersion {
		r.Header.Set("Mcp-Protocol-Version", c.version)
		r.Header.Set("Mcp-Method", method)
		r.Header.Set("Mcp-Name", tool)
	}
	return c.do(r)
}

func (c *raw) do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
		r.Header.Set("Mcp-Protocol-Version", c.version)
	}
	return c.http.Do(r)
}

func (c *raw) call(ctx context.Context, tool string, a arguments, progress func(float64)) (string, error) {
	c.id++
	given, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	meta := fmt.Sprintf(`"progressToken":%d`, c.id)
	if c.version == modernVersion {
		meta += `,"io.modelcontextprotocol/protocolVersion":"` + c.version + `","io.modelcontextprotocol/clientCapabilities":{}`
	}
	meta += a.meta()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{%s}}}`, c.id, tool, given, meta)
	response, err := c.post(ctx, body, "tools/call", tool) //nolint:bodyclose // read closes it
	last := ""
	for {
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBroken, err)
		}
		text, err := c.read(response, &last, progress)
		if !errors.Is(err, errBroken) || last == "" || ctx.Err() != nil {
			return text, err
		}
		if response, err = c.resume(ctx, last); err != nil { //nolint:bodyclose // read closes it
			return "", err
		}
	}
}

// setLevel says which log messages the client wants.
func (c *raw) setLevel(ctx context.Context, level string) error {
	c.id++
	response, err := c.post(ctx, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"logging/setLevel","params":{"level":%q}}`, c.id, level), "", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || jsonrpc.Get(body, "error") != nil) {
		err = fmt.Errorf("logging/setLevel: %s: %s", response.Status, body)
	}
	return err
}

// resume asks for the rest of a stream until someone answers.
func (c *raw) resume(ctx context.Context, last string) (*http.Response, error) {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Last-Event-ID", last)
		response, err := c.do(r)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("nobody resumes the stream behind %s: %w", last, ctx.Err())
		case err != nil:
		case response.StatusCode == http.StatusOK:
			return response, nil
		case response.StatusCode < 500:
			text, _ := io.ReadAll(response.Body)
			response.Body.Close()
			return nil, fmt.Errorf("resuming behind %s: %s: %s", last, response.Status, text)
		default:
			response.Body.Close()
		}
		time.Sleep(50 * time.Millisecond) // as a client would
	}
}

// read reads a response up to the answer. last becomes the id of the last event.
func (c *raw) read(response *http.Response, last *string, progress func(float64)) (string, error) {
	defer response.Body.Close()
	if response.Header.Get("Content-Type") != "text/event-stream" {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBroken, err)
		}
		if response.StatusCode == http.StatusBadGateway && jsonrpc.Check(body) != nil { // the balancer's own
			return "", fmt.Errorf("%w: %s", errBroken, response.Status)
		}
		return answer(body, response.Status)
	}
	events := sse.NewDecoder(response.Body, 1<<20)
	for {
		e, err := events.Next()
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBroken, err)
		}
		if e.ID != "" {
			*last = e.ID
		}
		switch method, _ := jsonrpc.GetString(e.Data, "method"); {
		case len(e.Data) == 0:
		case method == "notifications/progress":
			var p float64
			if err := json.Unmarshal(jsonrpc.Get(e.Data, "params", "progress"), &p); err != nil {
				return "", err
			}
			progress(p)
		case method == "":
			return answer(e.Data, response.Status)
		}
	}
}

// answer reads a response to tools/call.
func answer(body []byte, status string) (string, error) {
	m, err := jsonrpc.Parse(body)
	if err != nil || !m.IsResponse() {
		return "", fmt.Errorf("%s: %s", status, body)
	}
	return answerOf(m)
}

// answerOf is the text of a tool's result.
func answerOf(m jsonrpc.Message) (string, error) {
	if m.Error != nil {
		return "", refused(m.Error)
	}
	var result struct {
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(m.Result, &result); err != nil || len(result.Content) != 1 {
		return "", fmt.Errorf("the result %s", m.Result)
	}
	return result.Content[0].Text, nil
}
