package engine

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Modern serves one message of the modern era. Ending ctx cancels it. What belongs to a request and comes
// before its answer goes to out; a request whose client went away has no one to answer, and its Reply is
// empty.
func (e *Engine) Modern(ctx context.Context, c Client, m *jsonrpc.Message, out Stream) Reply {
	if m.IsNotification() {
		return Reply{Status: http.StatusAccepted}
	}
	if m.IsResponse() {
		return failure(nil, http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "clients send no responses in revision %s", mcp.V2026_07_28))
	}
	start := time.Now()
	measured := Measured{Transport: c.Transport, Method: m.Method, Principal: c.Principal.ID, Tenant: c.Principal.Tenant}
	ctx, span := e.trace(ctx, c, m)
	reply := e.modern(ctx, c, m, out, &measured)
	measured.Failed = measured.Failed || reply.Status >= 400
	e.measure(ctx, span, &measured, start)
	return reply
}

func (e *Engine) modern(ctx context.Context, c Client, m *jsonrpc.Message, out Stream, measured *Measured) Reply {
	if late, ok := e.late(ctx, c, m); ok {
		return late
	}
	env, r := readEnvelope(m, c.Header)
	if r == nil {
		r = checkHeaders(m, c.Header)
	}
	if r != nil {
		return failure(m.ID, r.status, r.err)
	}
	view, ok := e.view(c.View)
	if !ok {
		return failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no view or server is named %q", c.View))
	}
	switch m.Method {
	case mcp.MethodDiscover:
		return success(m.ID, e.discover(view))
	case mcp.MethodToolsList:
		return e.list(m, view, catalog.Tools, true)
	case mcp.MethodPromptsList:
		return e.list(m, view, catalog.Prompts, true)
	case mcp.MethodResourcesList:
		return e.list(m, view, catalog.Resources, true)
	case mcp.MethodTemplatesList:
		return e.list(m, view, catalog.Templates, true)
	case mcp.MethodToolsCall, mcp.MethodPromptsGet, mcp.MethodResourcesRead, mcp.MethodComplete:
		to, r := e.route(view, m, true)
		if r == nil && to.entry != nil && m.Method == mcp.MethodToolsCall {
			r = checkParamHeaders(to.entry, jsonrpc.Get(m.Params, "arguments"), c.Header)
		}
		if r != nil {
			return failure(m.ID, r.status, r.err)
		}
		measured.Server, measured.Name = to.server.GetServer().GetName(), to.name()
		return e.callModern(ctx, c, env, m, to, out, measured)
	case mcp.MethodListen:
		return e.listen(ctx, c, env, m, view, out)
	case mcp.MethodTasksGet, mcp.MethodTasksUpdate, mcp.MethodTasksCancel:
		return e.task(ctx, c, env, m, view, measured)
	}
	return failure(m.ID, http.StatusNotFound, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", m.Method))
}

// ListTTL is how long a client may keep a list before it asks again, in milliseconds. Clients that listen for
// changes are told at once.
const ListTTL = 60_000

// pendingTTL is that of lists in which a server's items are still to come, in milliseconds.
const pendingTTL = 1000

// cacheHints stand in each list and discovery result. Lists are equal for everyone who may see the view, but
// who may see it depends on the principal, so no shared cache may hold them.
func cacheHints(view *catalog.View) string {
	if view.Pending {
		return pendingHints
	}
	return settledHints
}

var (
	settledHints = hints(ListTTL)
	pendingHints = hints(pendingTTL)
)

func hints(ttl int) string { return `"ttlMs":` + strconv.Itoa(ttl) + `,"cacheScope":"private"` }

func (e *Engine) discover(view *catalog.View) []byte {
	b := []byte(`{"resultType":"complete","supportedVersions":`)
	b = append(b, stringArray(append(append([]string{}, mcp.ModernVersions...), mcp.LegacyVersions...))...)
	b = append(b, `,"capabilities":`...)
	b = append(b, modernCapabilities...)
	if view.Instructions != "" {
		b = append(b, `,"instructions":`...)
		b = append(b, jsonrpc.String(view.Instructions)...)
	}
	b = append(b, ',')
	b = append(b, cacheHints(view)...)
	b = append(b, e.metaMember()...)
	return append(b, '}')
}

// Capabilities are the same at every replica and at any time, whatever the servers behind offer just now: a
// client that connected when a server was away must not miss what it offers once it is back.
const (
	capabilities       = `"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}`
	modernCapabilities = `{` + capabilities + `,"extensions":{"` + mcp.ExtensionTasks + `":{}}}`
	legacyCapabilities = `{` + capabilities + `}`
)

// metaMember is the member of a result that says who answered.
func (e *Engine) metaMember() string {
	return `,"_meta":{"` + mcp.MetaServerInfo + `":` + string(e.serverInfo) + `}`
}

func stringArray(values []string) []byte {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, jsonrpc.String(v)...)
	}
	return append(b, ']')
}

// list answers from the catalogue; the page itself is shared with all who ask for it.
func (e *Engine) list(m *jsonrpc.Message, view *catalog.View, kind catalog.Kind, modern bool) Reply {
	cursor := ""
	if raw := jsonrpc.Get(m.Params, "cursor"); raw != nil {
		s, ok := text(raw)
		if !ok {
			return failure(m.ID, badParams(modern), jsonrpc.Errorf(jsonrpc.CodeInvalidParams, `"cursor" must be a string`))
		}
		cursor = s
	}
	array, next, err := view.Page(kind, cursor)
	if err != nil {
		return failure(m.ID, badParams(modern), jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown cursor; list again from the start"))
	}
	head := make([]byte, 0, 96+len(m.ID))
	head = append(head, `{"jsonrpc":"2.0","id":`...)
	head = append(head, m.ID...)
	head = append(head, `,"result":{`...)
	if modern {
		head = append(head, `"resultType":"complete",`...)
	}
	head = append(head, '"')
	head = append(head, kind.Member()...)
	head = append(head, `":`...)
	var tail []byte
	if next != "" {
		tail = append(tail, `,"nextCursor":"`+next+`"`...)
	}
	if modern {
		tail = append(append(tail, ','), cacheHints(view)...)
		tail = append(tail, e.metaMember()...)
	}
	tail = append(tail, "}}"...)
	return Reply{Status: http.StatusOK, Body: [][]byte{head, array, tail}}
}

// badParams is the HTTP status of a request with bad params: legacy revisions answer 200.
func badParams(modern bool) int {
	if modern {
		return http.StatusBadRequest
	}
	return http.StatusOK
}
