// Package era carries requests, results and errors between the protocol's two eras: legacy (2024-11-05 to
// 2025-11-25) and modern (2026-07-28). It changes envelopes only, never a tool's arguments or result,
// but for content that a client's revision does not have ([ResultForRevision]). It must not know transports, sessions or
// the catalogue.
package era

import (
	"encoding/json"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Client is what a request of the modern era says of its client.
type Client struct {
	Capabilities json.RawMessage // object; {} when nil
	Info         json.RawMessage // Implementation object, or nil
	LogLevel     string          // empty: no log messages
}

// RequestToModern gives a legacy client's params the metadata that a modern server requires.
func RequestToModern(params json.RawMessage, c Client) json.RawMessage {
	meta, _ := jsonrpc.ParseObject(jsonrpc.Get(params, "_meta"))
	meta.Set(mcp.MetaVersion, jsonrpc.String(mcp.ModernVersions[0]))
	if c.Capabilities == nil {
		c.Capabilities = json.RawMessage("{}")
	}
	meta.Set(mcp.MetaCapabilities, c.Capabilities)
	if c.Info != nil {
		meta.Set(mcp.MetaClientInfo, c.Info)
	}
	if c.LogLevel != "" {
		meta.Set(mcp.MetaLogLevel, jsonrpc.String(c.LogLevel))
	}
	return jsonrpc.With(params, meta.JSON(), "_meta")
}

// RequestToLegacy takes from a modern client's params what legacy servers don't know.
func RequestToLegacy(params json.RawMessage) json.RawMessage {
	o, ok := jsonrpc.ParseObject(params)
	if !ok {
		return params
	}
	o.Delete("inputResponses")
	o.Delete("requestState")
	o.Delete("task") // a hint of legacy clients that modern ones may still send; it would make a task there
	if meta, ok := jsonrpc.ParseObject(o.Get("_meta")); ok {
		for _, key := range []string{mcp.MetaVersion, mcp.MetaCapabilities, mcp.MetaClientInfo, mcp.MetaLogLevel} {
			meta.Delete(key)
		}
		if meta.Len() == 0 {
			o.Delete("_meta")
		} else {
			o.Set("_meta", meta.JSON())
		}
	}
	return o.JSON()
}

// ResultToModern gives a legacy server's result what the modern era requires of every result: resultType, for
// resources/read the caching hints (nothing may be kept), and who answered.
func ResultToModern(method string, result, serverInfo json.RawMessage) json.RawMessage {
	o, ok := jsonrpc.ParseObject(result)
	if !ok {
		return result
	}
	if o.Get("resultType") == nil {
		o.Set("resultType", jsonrpc.String(mcp.ResultComplete))
	}
	if method == mcp.MethodResourcesRead {
		if o.Get("ttlMs") == nil {
			o.Set("ttlMs", json.RawMessage("0"))
		}
		if o.Get("cacheScope") == nil {
			o.Set("cacheScope", jsonrpc.String("private"))
		}
	}
	if serverInfo != nil {
		meta, _ := jsonrpc.ParseObject(o.Get("_meta"))
		if meta.Get(mcp.MetaServerInfo) == nil {
			meta.Set(mcp.MetaServerInfo, serverInfo)
			o.Set("_meta", meta.JSON())
		}
	}
	return o.JSON()
}

// ErrorToModern replaces error codes that the modern era withdrew.
func ErrorToModern(e json.RawMessage) json.RawMessage {
	switch string(jsonrpc.Get(e, "code")) {
	case "-32002":
		return jsonrpc.With(e, jsonrpc.IntID(jsonrpc.CodeInvalidParams), "code")
	case "-32042":
		return jsonrpc.With(e, jsonrpc.IntID(jsonrpc.CodeInternal), "code")
	}
	return e
}

// ErrorToLegacy gives a modern server's error the code that legacy revisions name for it.
func ErrorToLegacy(method string, e json.RawMessage) json.RawMessage {
	if method == mcp.MethodResourcesRead && string(jsonrpc.Get(e, "code")) == "-32602" && jsonrpc.Get(e, "data", "uri") != nil {
		return jsonrpc.With(e, jsonrpc.IntID(mcp.CodeResourceNotFound), "code")
	}
	return e
}

// InputRequired reports whether a modern result asks the client for input.
func InputRequired(result json.RawMessage) bool {
	kind, _ := jsonrpc.GetString(result, "resultType")
	return kind == mcp.ResultInputRequired
}

// TaskCreated reports whether a modern result is a task in place of the result.
func TaskCreated(result json.RawMessage) bool {
	kind, _ := jsonrpc.GetString(result, "resultType")
	return kind == mcp.ResultTask
}
