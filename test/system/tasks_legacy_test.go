package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/test/cluster"
)

// jobServer is a server of revision 2025-11-25 with one tool, which can be called as a task only.
type jobServer struct {
	answers   chan json.RawMessage // to its one question
	cancelled chan struct{}
}

type jobMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Task      object `json:"task"`
		TaskID    string `json:"taskId"`
		Arguments object `json:"arguments"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
}

func newJobServer(t *testing.T) (*jobServer, string) {
	t.Helper()
	s := &jobServer{answers: make(chan json.RawMessage, 1), cancelled: make(chan struct{}, 1)}
	served := httptest.NewServer(s)
	t.Cleanup(served.Close)
	t.Cleanup(served.CloseClientConnections)
	return s, served.URL
}

func (s *jobServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "no stream", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	var m jobMessage
	if err != nil || json.Unmarshal(body, &m) != nil {
		http.Error(w, "no message", http.StatusBadRequest)
		return
	}
	w.Header().Set("Mcp-Session-Id", "one")
	w.Header().Set("Content-Type", "application/json")
	answer := func(member string, value any) {
		_ = json.NewEncoder(w).Encode(object{"jsonrpc": "2.0", "id": m.ID, member: value})
	}
	switch m.Method {
	case "":
		s.answers <- m.Result
		w.WriteHeader(http.StatusAccepted)
	case "initialize":
		answer("result", object{
			"protocolVersion": "2025-11-25", "serverInfo": object{"name": "jobs", "version": "1"},
			"capabilities": object{"tools": object{}, "tasks": object{"cancel": object{}, "requests": object{"tools": object{"call": object{}}}}},
		})
	case "tools/list":
		answer("result", object{"tools": []any{object{
			"name": "job", "description": "Needs a task.", "inputSchema": object{"type": "object"}, "execution": object{"taskSupport": "required"},
		}}})
	case "tools/call":
		if m.Params.Task == nil {
			answer("error", object{"code": -32601, "message": "call it as a task"})
			return
		}
		kind, _ := m.Params.Arguments["kind"].(string)
		answer("result", object{"task": object{"taskId": "job-" + kind, "status": "working", "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttl": 60000}})
	case "tasks/result":
		s.result(w, r, m)
	case "tasks/cancel":
		s.cancelled <- struct{}{}
		answer("result", object{"taskId": m.Params.TaskID, "status": "cancelled"})
	default:
		if m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		answer("error", object{"code": -32601, "message": "Method not found"})
	}
}

// result waits for the task's end, and asks its question meanwhile.
func (s *jobServer) result(w http.ResponseWriter, r *http.Request, m jobMessage) {
	w.Header().Set("Content-Type", "text/event-stream")
	said := "done"
	switch m.Params.TaskID {
	case "job-asking":
		fmt.Fprintf(w, "data: %s\n\n", `{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"mode":"form","message":"Name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}}}`)
		w.(http.Flusher).Flush()
		select {
		case answer := <-s.answers:
			var given struct{ Content object }
			_ = json.Unmarshal(answer, &given)
			said = fmt.Sprintf("done for %v", given.Content["name"])
		case <-r.Context().Done():
			return
		}
	case "job-endless":
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	result, _ := json.Marshal(object{"jsonrpc": "2.0", "id": m.ID, "result": object{
		"content": []any{object{"type": "text", "text": said}},
		"_meta":   object{"io.modelcontextprotocol/related-task": object{"taskId": m.Params.TaskID}},
	}})
	fmt.Fprintf(w, "data: %s\n\n", result)
}

// Whoever takes no tasks, because of its revision or by its own word, gets the answer of a server that makes them.
func TestTasksAreCarriedToTheirEndForWhoTakesNone(t *testing.T) {
	jobs, url := newJobServer(t)
	modern := cluster.RunFixtures(t, fixtures, "modern")
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Env: []string{"ERLMCP_TASKS_PROMOTE_AFTER=300ms"}, Config: "servers:\n" +
		"  - {name: modern, url: \"" + modern.URL + "\"}\n  - {name: jobs, url: \"" + url + "\"}\n"})
	awaitServers(t, place{rest: cluster.Address(up.Ports.API)}, 2)
	client := func(view string) *mcp.ClientSession {
		c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
			ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Alice", "confirm": true, "color": "blue"}}, nil
			},
		})
		session, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: up.URL(view)}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { session.Close() })
		return session
	}
	for _, c := range []struct {
		view, tool string
		args       map[string]any
		want       string
		isError    bool
	}{
		{"modern", "slow_compute", map[string]any{"seconds": 0.5, "label": "it"}, "Computed it.", false},
		{"modern", "failing_job", nil, "The job failed.", true},
		{"modern", "confirm_delete", map[string]any{"filename": "f"}, "Asked about f: accept.", false},
		{"modern", "multi_input", nil, "Name: accept, color: accept.", false},
		{"modern", "test_tool_with_task", nil, "Hello, Alice!", false},
		{"jobs", "job", nil, "done", false},
		{"jobs", "job", map[string]any{"kind": "asking"}, "done for Alice", false},
	} {
		t.Run("legacy client/"+c.view+"/"+c.tool, func(t *testing.T) {
			result, err := client(c.view).CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: c.args})
			if err != nil {
				t.Fatal(err)
			}
			text, _ := result.Content[0].(*mcp.TextContent)
			if text == nil || text.Text != c.want || result.IsError != c.isError {
				t.Errorf("got %+v", result.Content[0])
			}
		})
	}
	t.Run("legacy client/a protocol error", func(t *testing.T) {
		if result, err := client("modern").CallTool(t.Context(), &mcp.CallToolParams{Name: "protocol_error_job"}); err == nil || !strings.Contains(err.Error(), "the job broke") {
			t.Errorf("got %v, %v", result, err)
		}
	})
	t.Run("legacy client/cancelling", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		session := client("jobs")
		go func() {
			_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "job", Arguments: map[string]any{"kind": "endless"}})
			ended <- err
		}()
		time.AfterFunc(500*time.Millisecond, cancel)
		if err := <-ended; err == nil {
			t.Error("a cancelled call was answered")
		}
		select {
		case <-jobs.cancelled:
		case <-time.After(10 * time.Second):
			t.Error("the server did not hear of it")
		}
	})
	t.Run("modern client without tasks", func(t *testing.T) {
		plain := &taskClient{urls: []string{up.URL("jobs")}, plain: true}
		result := plain.call(t, "job", nil)
		if meta, _ := result["_meta"].(object); textOf(result) != "done" || meta["io.modelcontextprotocol/related-task"] != nil {
			t.Errorf("got %v", result)
		}
		(&taskClient{urls: []string{up.URL("modern")}, plain: true}).refused(t, -32021, "tools/call", object{"name": "failing_job", "arguments": object{}})
	})
	t.Run("modern client with tasks", func(t *testing.T) {
		c := &taskClient{urls: []string{up.URL("jobs")}}
		id := c.start(t, "job", object{"kind": "endless"})
		if _, err := c.ask(t.Context(), "tasks/cancel", object{"taskId": id}); err != nil {
			t.Fatal(err)
		}
		c.await(t, id, "cancelled")
		select {
		case <-jobs.cancelled:
		case <-time.After(10 * time.Second):
			t.Error("the server did not hear of it")
		}
	})
	t.Run("tasks of 2025-11-25", func(t *testing.T) { legacyTasksAreNone(t, up.URL("modern")) })
}

// legacyTasksAreNone: the server declares no tasks to a client of revision 2025-11-25, so the param is ignored and
// the methods are unknown.
func legacyTasksAreNone(t *testing.T, url string) {
	session := ""
	post := func(body string) object {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
			req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
		}
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		session = response.Header.Get("Mcp-Session-Id") + session
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var message object
		_ = json.Unmarshal(text, &message)
		return message
	}
	opened := post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	result, _ := opened["result"].(object)
	capabilities, _ := result["capabilities"].(object)
	if capabilities == nil || capabilities["tasks"] != nil || capabilities["extensions"] != nil {
		t.Errorf("initialize says %v", opened)
	}
	post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	called := post(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"greet","arguments":{"name":"Ada"},"task":{"ttl":60000}}}`)
	if textOf(called["result"]) != "Hello, Ada!" {
		t.Errorf("a call with a task param gave %v", called)
	}
	for _, method := range []string{"tasks/get", "tasks/list", "tasks/result", "tasks/cancel"} {
		refused, _ := post(`{"jsonrpc":"2.0","id":3,"method":"` + method + `","params":{"taskId":"x"}}`)["error"].(object)
		if text, _ := refused["message"].(string); refused["code"] != -32601.0 || !strings.Contains(text, "2026-07-28") {
			t.Errorf("%s gave %v", method, refused)
		}
	}
}
