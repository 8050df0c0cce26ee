package stdio

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// toolParams are the arguments that modern requests repeat in headers, by tool. They are learnt from the lists of
// tools that pass, and asked for where a call is refused for the lack of them.
type toolParams struct {
	mu    sync.Mutex
	tools map[string][]mcp.HeaderParam
}

// maxTools bounds how many tools are remembered.
const maxTools = 10_000

func (p *toolParams) learn(result json.RawMessage) {
	tools := jsonrpc.Get(result, "tools")
	if len(tools) == 0 || tools[0] != '[' {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tools == nil || len(p.tools) > maxTools {
		p.tools = map[string][]mcp.HeaderParam{}
	}
	jsonrpc.Elements(tools, func(tool []byte) bool {
		name, _ := jsonrpc.GetString(tool, "name")
		delete(p.tools, name)
		if params := mcp.HeaderParams(jsonrpc.Get(tool, "inputSchema")); len(params) > 0 {
			p.tools[name] = params
		}
		return true
	})
}

func (p *toolParams) set(h http.Header, m *jsonrpc.Message) {
	name, _ := jsonrpc.GetString(m.Params, "name")
	p.mu.Lock()
	params := p.tools[name]
	p.mu.Unlock()
	mcp.SetHeaderParams(h, params, jsonrpc.Get(m.Params, "arguments"))
}

// sendModern passes a modern request on and its answer back.
func (l *link) sendModern(ctx context.Context, m *jsonrpc.Message, data []byte) {
	answer := l.postModern(ctx, m, data)
	code := string(jsonrpc.Get(answer, "error", "code"))
	if code == "-32020" && m.Method == mcp.MethodToolsCall && l.listTools(ctx, m) {
		answer = l.postModern(ctx, m, data) // a request that was refused was not carried out
	}
	if m.Method == mcp.MethodToolsList {
		l.params.learn(jsonrpc.Get(answer, "result"))
	}
	if answer != nil && ctx.Err() == nil {
		l.write(answer)
	}
}

// postModern sends a modern request and returns its answer; nil where it was cancelled. What comes before goes to
// the client.
func (l *link) postModern(ctx context.Context, m *jsonrpc.Message, data []byte) []byte {
	r, err := l.request(ctx, http.MethodPost, data)
	if err != nil {
		return l.unreachable(m.ID, err)
	}
	version, _ := jsonrpc.GetString(m.Params, "_meta", mcp.MetaVersion)
	r.Header[mcp.HeaderVersion] = []string{version}
	r.Header[mcp.HeaderMethod] = []string{m.Method}
	if member := mcp.NamedBy(m.Method); member != "" {
		if name, ok := jsonrpc.GetString(m.Params, member); ok {
			r.Header[mcp.HeaderName] = []string{mcp.EncodeHeader(name)}
		}
	}
	if m.Method == mcp.MethodToolsCall {
		l.params.set(r.Header, m)
	}
	response, err := l.Client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return l.unreachable(m.ID, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, _, err := l.receive(ctx, response, m.ID)
	if answer == nil && ctx.Err() == nil {
		return l.unreachable(m.ID, err)
	}
	return answer
}

// listTools asks what arguments are repeated in headers.
func (l *link) listTools(ctx context.Context, m *jsonrpc.Message) bool {
	cursor := ""
	for range 100 {
		var params jsonrpc.Object
		params.Set("_meta", jsonrpc.Without(jsonrpc.Get(m.Params, "_meta"), mcp.MetaProgressToken))
		if cursor != "" {
			params.Set("cursor", jsonrpc.String(cursor))
		}
		list := &jsonrpc.Message{ID: json.RawMessage(`"erlmcp-bridge"`), Method: mcp.MethodToolsList, Params: params.JSON()}
		answer := l.postModern(ctx, list, jsonrpc.Request(list.ID, list.Method, list.Params))
		result := jsonrpc.Get(answer, "result")
		if result == nil {
			return false
		}
		l.params.learn(result)
		var more bool
		if cursor, more = jsonrpc.GetString(result, "nextCursor"); !more {
			return true
		}
	}
	return true
}

// unreachable is the answer to a request that got none.
func (l *link) unreachable(id json.RawMessage, err error) []byte {
	reason := "the answer broke off"
	if err != nil {
		reason = strings.TrimSpace(err.Error())
	}
	l.Log.Warn("a request was not answered", "error", reason)
	return jsonrpc.ErrorResponse(id, jsonrpc.Errorf(jsonrpc.CodeInternal, "erlmcp at %s did not answer: %s", l.URL, reason).JSON())
}
