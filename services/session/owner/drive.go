package owner

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// A server's own task whose client can't take it is carried to its end here, and the client gets the answer as of
// any other call.

// cancelTime is how long a server has to hear that a task of its own is no longer wanted.
const cancelTime = 5 * time.Second

func aboutTask(id string) jsonrpc.Object {
	var o jsonrpc.Object
	o.Set("taskId", jsonrpc.String(id))
	return o
}

// unwanted tells a server that nobody waits for its task any more.
func unwanted(end End, params json.RawMessage) {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTime)
	defer cancel()
	_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodTasksCancel, Params: params}, nil) // it may have ended
}

// callLegacy calls a server of the legacy era. A tool that can be called as a task only (execution.taskSupport of
// revision 2025-11-25) is called so.
func (o *Owner) callLegacy(ctx context.Context, end End, server string, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	name, _ := jsonrpc.GetString(req.Params, "name")
	s := o.config.Catalog.Current().Server(server)
	if req.Method != mcp.MethodToolsCall || !taskOnly(s, o.tool(server, name)) {
		return o.config.Tracer.Call(ctx, server, end, req, from)
	}
	var life jsonrpc.Object
	life.Set("ttl", jsonrpc.IntID((callTimeout(s) + o.config.InputWait).Milliseconds()))
	created := req
	created.Journal = nil // the answer that counts is that of another request
	created.Params = jsonrpc.With(req.Params, life.JSON(), "task")
	reply, err := o.config.Tracer.Call(ctx, server, end, created, from)
	id, isTask := jsonrpc.GetString(reply.Result, "task", "taskId")
	if err != nil || !isTask {
		return reply, err
	}
	about := aboutTask(id)
	// tasks/result waits for the end of the task, and meanwhile the server may ask its questions on it.
	reply, err = end.Call(ctx, upstream.Request{Method: methodTasksResult, Params: about.JSON()}, from)
	if ctx.Err() != nil {
		unwanted(end, about.JSON())
	}
	if reply.Result != nil {
		reply.Result = jsonrpc.Without(reply.Result, "_meta", metaRelatedTask)
	}
	return reply, err
}

// Names of the tasks of revision 2025-11-25.
const (
	methodTasksResult = "tasks/result"
	metaRelatedTask   = "io.modelcontextprotocol/related-task"
)

// tool is a server's tool by its own name, or nil.
func (o *Owner) tool(server, name string) *catalog.Entry {
	view, ok := o.config.Catalog.Current().View(server)
	if !ok {
		return nil
	}
	return view.Find(catalog.Tools, name)
}

// taskOnly reports whether a tool of a legacy server must be called as a task.
func taskOnly(s *registryv1.CatalogServer, tool *catalog.Entry) bool {
	if tool == nil || jsonrpc.Get(s.GetOffer().GetCapabilities(), "tasks", "requests", "tools", "call") == nil {
		return false
	}
	support, _ := jsonrpc.GetString(tool.JSON, "execution", "taskSupport")
	return support == "required"
}

// Bounds of how often a server is asked for a task of its own.
const (
	minPoll = 50 * time.Millisecond
	maxPoll = 10 * time.Second
)

// followTask carries a modern server's task to its end for a legacy client: its questions become requests to the
// client, and the reply is that of the call. meta is the call's.
func (s *session) followTask(ctx context.Context, end End, server string, created, meta json.RawMessage, from heard) (upstream.Reply, error) {
	id, _ := jsonrpc.GetString(created, "taskId")
	about := aboutTask(id)
	about.Set("_meta", meta)
	seen := map[string]bool{}
	for task := created; ; {
		select {
		case <-time.After(pollEvery(task)):
		case <-ctx.Done():
			unwanted(end, about.JSON())
			return upstream.Reply{}, context.Cause(ctx)
		}
		reply, err := end.Call(ctx, upstream.Request{Method: mcp.MethodTasksGet, Params: about.JSON()}, from)
		switch {
		case err != nil && ctx.Err() != nil:
			continue // and cancel
		case err != nil || reply.Error != nil:
			return reply, err
		}
		task = reply.Result
		switch status, _ := jsonrpc.GetString(task, "status"); status {
		case "completed":
			return upstream.Reply{Result: jsonrpc.Get(task, "result")}, nil
		case "failed":
			return upstream.Reply{Error: jsonrpc.Get(task, "error")}, nil
		case "cancelled":
			return failed(jsonrpc.Errorf(jsonrpc.CodeInternal, "the server cancelled the call")), nil
		case "input_required":
			if refused := s.answerTask(ctx, end, server, task, about, seen, from); refused != nil {
				unwanted(end, about.JSON())
				return failed(refused), nil
			}
		}
	}
}

// answerTask asks the client what a server's task wants and was not asked before, and brings the answers.
func (s *session) answerTask(ctx context.Context, end End, server string, task json.RawMessage, about jsonrpc.Object, seen map[string]bool, from heard) *jsonrpc.Error {
	requests, _ := jsonrpc.ParseObject(jsonrpc.Get(task, "inputRequests"))
	for _, key := range requests.Keys() {
		if seen[key] {
			requests.Delete(key)
		}
		seen[key] = true
	}
	if requests.Len() == 0 {
		return nil
	}
	if len(seen) > maxRounds {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "the server asked for input more than %d times", maxRounds)
	}
	responses, refused := s.gather(ctx, from, requests.JSON())
	if refused != nil {
		return refused
	}
	params := jsonrpc.With(about.JSON(), responses, "inputResponses")
	reply, err := end.Call(ctx, upstream.Request{Method: mcp.MethodTasksUpdate, Params: params}, from)
	switch {
	case err != nil:
		return upstream.Explain(server, err)
	case reply.Error != nil:
		return jsonrpc.ParseError(reply.Error)
	}
	return nil
}

// pollEvery is how long to wait before a task is asked for again.
func pollEvery(task json.RawMessage) time.Duration {
	ms, err := strconv.ParseInt(string(jsonrpc.Get(task, "pollIntervalMs")), 10, 64)
	if err != nil {
		return time.Second
	}
	return min(max(time.Duration(ms)*time.Millisecond, minPoll), maxPoll)
}
