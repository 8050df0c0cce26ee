package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// envelope is what a modern request says of itself in params._meta.
type envelope struct {
	version      string
	capabilities json.RawMessage
	logLevel     string
	traceparent  string
	tasks        bool // the client takes tasks in place of results
}

// IsModern reports whether a message, or the header it came with, is of the modern era: it carries the modern
// metadata, or its header names a revision that is not older. Everything else is legacy.
func IsModern(m *jsonrpc.Message, header http.Header) bool {
	if header != nil && header.Get(mcp.HeaderVersion) >= mcp.ModernVersions[len(mcp.ModernVersions)-1] {
		return true
	}
	return jsonrpc.Get(m.Params, "_meta", mcp.MetaVersion) != nil
}

// refusal is why a request is not served.
type refusal struct {
	status int
	err    *jsonrpc.Error
}

func refuse(status int, code int64, format string, args ...any) *refusal {
	return &refusal{status, jsonrpc.Errorf(code, format, args...)}
}

// readEnvelope checks a modern request's metadata in the order that lets a client learn most: first that header
// and body agree, then that the body is whole, then that the revision is served (specification 2026-07-28,
// basic and streamable-http).
func readEnvelope(m *jsonrpc.Message, header http.Header) (envelope, *refusal) {
	var v envelope
	meta, _ := jsonrpc.ParseObject(jsonrpc.Get(m.Params, "_meta"))
	rawVersion := meta.Get(mcp.MetaVersion)
	version, isString := text(rawVersion)
	v.version = version
	if header != nil {
		named := strings.TrimSpace(header.Get(mcp.HeaderVersion))
		switch {
		case len(header.Values(mcp.HeaderVersion)) > 1:
			return v, refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, "the header MCP-Protocol-Version stands more than once")
		case named == "":
			return v, refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, "the header MCP-Protocol-Version is missing")
		case rawVersion != nil && (!isString || named != version):
			return v, refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, "the header MCP-Protocol-Version differs from _meta")
		}
	}
	v.capabilities = meta.Get(mcp.MetaCapabilities)
	switch {
	case !isString:
		return v, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "params._meta needs %q, a string", mcp.MetaVersion)
	case len(v.capabilities) == 0 || v.capabilities[0] != '{':
		return v, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "params._meta needs %q, an object", mcp.MetaCapabilities)
	}
	if !mcp.IsModern(version) {
		r := refuse(http.StatusBadRequest, mcp.CodeUnsupportedVersion, "protocol version is not supported in this form")
		r.err.Data, _ = json.Marshal(map[string]any{"supported": mcp.ModernVersions, "requested": version})
		return v, r
	}
	if level := meta.Get(mcp.MetaLogLevel); level != nil {
		name, ok := text(level)
		if !ok || !slices.Contains(mcp.LogLevels, name) {
			return v, refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "params._meta has an unknown %q", mcp.MetaLogLevel)
		}
		v.logLevel = name
	}
	v.traceparent, _ = text(meta.Get("traceparent"))
	v.tasks = mcp.HasTasks(v.capabilities)
	return v, nil
}

// text decodes a JSON string.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", false
	}
	return s, true
}

// required reads a string member of params, or says that it is missing.
func required(params json.RawMessage, key string) (string, *refusal) {
	s, ok := jsonrpc.GetString(params, key)
	if !ok {
		return "", refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "params needs %q, a string", key)
	}
	return s, nil
}

func unknown(what, name string) *refusal {
	return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, "%s", fmt.Sprintf("Unknown %s: %s", what, name))
}
