package system

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
)

// taskClient is a modern client that takes tasks, at several gateways in turn.
type taskClient struct {
	urls []string
	key  string // an API key; empty for none
	next int
	// plain leaves out that it takes tasks.
	plain bool
}

type object = map[string]any

// rpcError is a JSON-RPC error.
type rpcError struct {
	Code    int
	Message string
	Data    object
	Status  int // HTTP
}

func (e *rpcError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

func (c *taskClient) post(ctx context.Context, method string, params object) (*http.Response, error) {
	capabilities := object{"elicitation": object{}, "sampling": object{}}
	if !c.plain {
		capabilities["extensions"] = object{"io.modelcontextprotocol/tasks": object{}}
	}
	all := object{"_meta": object{
		"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
		"io.modelcontextprotocol/clientCapabilities": capabilities,
	}}
	for k, v := range params {
		all[k] = v
	}
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": 7, "method": method, "params": all})
	if err != nil {
		return nil, err
	}
	url := c.urls[c.next%len(c.urls)]
	c.next++
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method,
	} {
		req.Header.Set(k, v)
	}
	for _, named := range []string{"name", "taskId"} {
		if name, ok := params[named].(string); ok {
			req.Header.Set("Mcp-Name", name)
		}
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return http.DefaultClient.Do(req)
}

// ask sends a request and gives its result or a *rpcError. Notifications before the answer are passed over.
func (c *taskClient) ask(ctx context.Context, method string, params object) (object, error) {
	response, err := c.post(ctx, method, params)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		_, last, _ := bytes.Cut(body[bytes.LastIndex(body, []byte("data:")):], []byte("data:"))
		body = last
	}
	var message struct {
		Result object
		Error  *rpcError
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, fmt.Errorf("%s answers %d: %s", method, response.StatusCode, body)
	}
	if message.Error != nil {
		message.Error.Status = response.StatusCode
		return nil, message.Error
	}
	return message.Result, nil
}

func (c *taskClient) call(t *testing.T, tool string, arguments object) object {
	t.Helper()
	result, err := c.ask(t.Context(), "tools/call", object{"name": tool, "arguments": arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return result
}

// start calls a tool that becomes a task, and gives its id.
func (c *taskClient) start(t *testing.T, tool string, arguments object) string {
	t.Helper()
	result := c.call(t, tool, arguments)
	id, _ := result["taskId"].(string)
	if result["resultType"] != "task" || id == "" || result["status"] == nil || result["createdAt"] == nil || result["lastUpdatedAt"] == nil || result["ttlMs"] == nil {
		t.Fatalf("%s did not become a task: %v", tool, result)
	}
	return id
}

func (c *taskClient) get(t *testing.T, id string) object {
	t.Helper()
	task, err := c.ask(t.Context(), "tasks/get", object{"taskId": id})
	if err != nil {
		t.Fatal(err)
	}
	if task["taskId"] != id || task["resultType"] != "complete" {
		t.Fatalf("got %v", task)
	}
	return task
}

// await asks for a task until it has one of some statuses.
func (c *taskClient) await(t *testing.T, id string, statuses ...string) (task object) {
	t.Helper()
	testkit.Eventually(t, func() error {
		var err error
		if task, err = c.ask(t.Context(), "tasks/get", object{"taskId": id}); err != nil {
			return err
		}
		for _, status := range statuses {
			if task["status"] == status {
				return nil
			}
		}
		return fmt.Errorf("the task is %v, not %v", task["status"], statuses)
	}, 40*time.Second)
	return task
}

// update answers a task's input requests.
func (c *taskClient) update(t *testing.T, id string, responses object) {
	t.Helper()
	result, err := c.ask(t.Context(), "tasks/update", object{"taskId": id, "inputResponses": responses})
	if err != nil || result["resultType"] != "complete" || result["taskId"] != nil {
		t.Fatalf("tasks/update: %v, %v", result, err)
	}
}

// refused checks that a request is answered with an error of a code and HTTP status 400.
func (c *taskClient) refused(t *testing.T, code int, method string, params object) *rpcError {
	t.Helper()
	result, err := c.ask(t.Context(), method, params)
	var refused *rpcError
	if !errors.As(err, &refused) || refused.Code != code || refused.Status != http.StatusBadRequest {
		t.Fatalf("%s %v gave %v, %v; want %d", method, params, result, err, code)
	}
	return refused
}

// textOf is the text of a tool's result.
func textOf(result any) string {
	o, _ := result.(object)
	content, _ := o["content"].([]any)
	if len(content) == 0 {
		return ""
	}
	block, _ := content[0].(object)
	text, _ := block["text"].(string)
	return text
}

// keysOf are the keys of a task's input requests.
func keysOf(task object) []string {
	requests, _ := task["inputRequests"].(object)
	var keys []string
	for key := range requests {
		keys = append(keys, key)
	}
	return keys
}

// listen passes on the notifications of a subscription to tasks until the test ends.
func (c *taskClient) listen(t *testing.T, ids ...string) <-chan object {
	t.Helper()
	response, err := c.post(t.Context(), "subscriptions/listen", object{"notifications": object{"taskIds": ids}})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan object, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
			var message object
			if ok && json.Unmarshal(data, &message) == nil {
				heard <- message
			}
		}
	}()
	t.Cleanup(func() {
		response.Body.Close()
		<-done
	})
	return heard
}
