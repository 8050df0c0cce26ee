package engine

import (
	"encoding/json"
	"net/http"
	"slices"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// destination is where a request goes.
type destination struct {
	server *registryv1.CatalogServer
	entry  *catalog.Entry  // of a tool or prompt
	params json.RawMessage // with the server's own names
}

// name is the tool or prompt as the client names it, or empty.
func (d *destination) name() string {
	if d.entry == nil {
		return ""
	}
	return d.entry.Public
}

// route finds the server for a request that names a tool, prompt or resource.
func (e *Engine) route(view *catalog.View, m *jsonrpc.Message, modern bool) (*destination, *refusal) {
	d := &destination{params: m.Params}
	server := ""
	switch m.Method {
	case mcp.MethodToolsCall, mcp.MethodPromptsGet:
		kind, what := catalog.Tools, "tool"
		if m.Method == mcp.MethodPromptsGet {
			kind, what = catalog.Prompts, "prompt"
		}
		name, r := required(m.Params, "name")
		if r != nil {
			return nil, r
		}
		if d.entry = view.Find(kind, name); d.entry == nil {
			return nil, unknown(what, name)
		}
		if d.entry.Own != d.entry.Public {
			d.params = jsonrpc.With(m.Params, jsonrpc.String(d.entry.Own), "name")
		}
		server = d.entry.Server
	case mcp.MethodComplete:
		return e.routeCompletion(view, m, modern)
	default: // resources/read, subscribe, unsubscribe
		uri, r := required(m.Params, "uri")
		if r != nil {
			return nil, r
		}
		found := false
		if server, found = view.ServerOf(uri); !found {
			return nil, &refusal{http.StatusBadRequest, mcp.NotFound(modern, uri)}
		}
	}
	return e.at(d, server)
}

func (e *Engine) routeCompletion(view *catalog.View, m *jsonrpc.Message, modern bool) (*destination, *refusal) {
	d := &destination{params: m.Params}
	switch kind, _ := jsonrpc.GetString(m.Params, "ref", "type"); kind {
	case "ref/prompt":
		name, _ := jsonrpc.GetString(m.Params, "ref", "name")
		if d.entry = view.Find(catalog.Prompts, name); d.entry == nil {
			return nil, unknown("prompt", name)
		}
		if d.entry.Own != d.entry.Public {
			d.params = jsonrpc.With(m.Params, jsonrpc.String(d.entry.Own), "ref", "name")
		}
		return e.at(d, d.entry.Server)
	case "ref/resource":
		uri, _ := jsonrpc.GetString(m.Params, "ref", "uri")
		if t := view.Find(catalog.Templates, uri); t != nil {
			return e.at(d, t.Server)
		}
		if server, ok := view.ServerOf(uri); ok {
			return e.at(d, server)
		}
		return nil, &refusal{http.StatusBadRequest, mcp.NotFound(modern, uri)}
	}
	return nil, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, `params.ref needs a "type" of ref/prompt or ref/resource`)
}

func (e *Engine) at(d *destination, server string) (*destination, *refusal) {
	if d.server = e.config.Catalog.Current().Server(server); d.server == nil {
		return nil, refuse(http.StatusBadGateway, jsonrpc.CodeInternal, "server %q was just removed", server)
	}
	return d, nil
}

// Sessionless reports whether calls of a server hang together by no session, so that any process may send them.
func Sessionless(s *registryv1.CatalogServer) bool {
	switch s.GetServer().GetEndpoint().(type) {
	case *registryv1.Server_Grpc:
		return true
	case *registryv1.Server_Http:
		o := s.GetOffer()
		return slices.Contains(o.GetEras(), registryv1.Era_ERA_MODERN) || o.GetSessionless() && !o.GetHttpSse()
	}
	return false
}

// legacyOnly reports whether a server must be spoken to in the legacy era.
func legacyOnly(s *registryv1.CatalogServer) bool {
	eras := s.GetOffer().GetEras()
	return len(eras) > 0 && !slices.Contains(eras, registryv1.Era_ERA_MODERN)
}

func isErrorResult(result json.RawMessage) bool {
	return string(jsonrpc.Get(result, "isError")) == "true"
}
