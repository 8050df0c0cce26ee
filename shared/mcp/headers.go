package mcp

import (
	"encoding/json"
	"slices"

	"erlmcp.dev/shared/jsonrpc"
)

// NamedBy is the member of params that a method's Mcp-Name header repeats; empty where it has no such header.
func NamedBy(method string) string {
	switch method {
	case MethodToolsCall, MethodPromptsGet:
		return "name"
	case MethodResourcesRead:
		return "uri"
	case MethodTasksGet, MethodTasksUpdate, MethodTasksCancel:
		return "taskId"
	}
	return ""
}

// HeaderParam is an argument of a tool that modern clients mirror in an HTTP header, as its input schema's
// x-mcp-header annotation says (specification 2026-07-28, streamable-http).
type HeaderParam struct {
	// Header is the annotation's value: the header is Mcp-Param-<Header>.
	Header string
	// Path leads to the argument through nested objects.
	Path []string
	// Type is "string", "integer" or "boolean".
	Type string
}

// maxHeaderDepth bounds how deep annotations are looked for.
const maxHeaderDepth = 16

// HeaderParams returns the annotated arguments of a tool's input schema, in the schema's order.
func HeaderParams(schema json.RawMessage) []HeaderParam {
	return headerParams(schema, nil)
}

func headerParams(schema json.RawMessage, path []string) []HeaderParam {
	properties, ok := jsonrpc.ParseObject(jsonrpc.Get(schema, "properties"))
	if !ok || len(path) >= maxHeaderDepth {
		return nil
	}
	var params []HeaderParam
	for _, key := range properties.Keys() {
		property := properties.Get(key)
		at := append(slices.Clone(path), key)
		if header, ok := jsonrpc.GetString(property, "x-mcp-header"); ok {
			kind, _ := jsonrpc.GetString(property, "type")
			params = append(params, HeaderParam{Header: header, Path: at, Type: kind})
		}
		params = append(params, headerParams(property, at)...)
	}
	return params
}
