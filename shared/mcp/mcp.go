// Package mcp holds what the Model Context Protocol's specification names: revisions, methods, metadata keys,
// error codes, headers. It must not know transports or services.
package mcp

import (
	"encoding/json"
	"slices"

	"erlmcp.dev/shared/jsonrpc"
)

// Revisions of the protocol.
const (
	V2024_11_05 = "2024-11-05"
	V2025_03_26 = "2025-03-26"
	V2025_06_18 = "2025-06-18"
	V2025_11_25 = "2025-11-25"
	V2026_07_28 = "2026-07-28"
)

// LegacyVersions are the revisions with initialize and sessions, newest first.
var LegacyVersions = []string{V2025_11_25, V2025_06_18, V2025_03_26, V2024_11_05}

// ModernVersions are the revisions with metadata on every request, newest first.
var ModernVersions = []string{V2026_07_28}

// IsLegacy reports whether v is a known legacy revision.
func IsLegacy(v string) bool { return slices.Contains(LegacyVersions, v) }

// IsModern reports whether v is a known modern revision.
func IsModern(v string) bool { return slices.Contains(ModernVersions, v) }

// NegotiateLegacy answers an initialize that asks for a revision: that one if it is a known legacy one, else
// the newest legacy one (specification 2025-11-25, lifecycle).
func NegotiateLegacy(asked string) string {
	if IsLegacy(asked) {
		return asked
	}
	return LegacyVersions[0]
}

// Methods.
const (
	MethodInitialize       = "initialize"
	MethodPing             = "ping"
	MethodDiscover         = "server/discover"
	MethodListen           = "subscriptions/listen"
	MethodToolsList        = "tools/list"
	MethodToolsCall        = "tools/call"
	MethodPromptsList      = "prompts/list"
	MethodPromptsGet       = "prompts/get"
	MethodResourcesList    = "resources/list"
	MethodTemplatesList    = "resources/templates/list"
	MethodResourcesRead    = "resources/read"
	MethodSubscribe        = "resources/subscribe"
	MethodUnsubscribe      = "resources/unsubscribe"
	MethodComplete         = "completion/complete"
	MethodSetLevel         = "logging/setLevel"
	MethodSample           = "sampling/createMessage"
	MethodElicit           = "elicitation/create"
	MethodRootsList        = "roots/list"
	MethodInitialized      = "notifications/initialized"
	MethodCancelled        = "notifications/cancelled"
	MethodProgress         = "notifications/progress"
	MethodMessage          = "notifications/message"
	MethodToolsChanged     = "notifications/tools/list_changed"
	MethodPromptsChanged   = "notifications/prompts/list_changed"
	MethodResourcesChanged = "notifications/resources/list_changed"
	MethodResourceUpdated  = "notifications/resources/updated"
	MethodRootsChanged     = "notifications/roots/list_changed"
	MethodAcknowledged     = "notifications/subscriptions/acknowledged"
	MethodTasksGet         = "tasks/get"
	MethodTasksUpdate      = "tasks/update"
	MethodTasksCancel      = "tasks/cancel"
	MethodTasks            = "notifications/tasks"
	MethodElicitationDone  = "notifications/elicitation/complete"
)

// Keys of _meta.
const (
	MetaVersion        = "io.modelcontextprotocol/protocolVersion"
	MetaCapabilities   = "io.modelcontextprotocol/clientCapabilities"
	MetaClientInfo     = "io.modelcontextprotocol/clientInfo"
	MetaServerInfo     = "io.modelcontextprotocol/serverInfo"
	MetaLogLevel       = "io.modelcontextprotocol/logLevel"
	MetaSubscriptionID = "io.modelcontextprotocol/subscriptionId"
	MetaProgressToken  = "progressToken"

	// MetaIdempotencyKey names a call: sent again under the same key it is not carried out again. It is ours.
	MetaIdempotencyKey = "dev.erlmcp/idempotencyKey"
)

// ExtensionTasks names the tasks extension (SEP-2663) in capabilities of clients and servers.
const ExtensionTasks = "io.modelcontextprotocol/tasks"

// HasTasks reports whether capabilities, a client's or a server's, declare the tasks extension.
func HasTasks(capabilities json.RawMessage) bool {
	return jsonrpc.Get(capabilities, "extensions", ExtensionTasks) != nil
}

// NoTasks is the error for a client that does not declare the tasks extension where it must.
func NoTasks() *jsonrpc.Error {
	return &jsonrpc.Error{
		Code:    CodeMissingCapability,
		Message: "this needs the client capability " + ExtensionTasks,
		Data:    json.RawMessage(`{"requiredCapabilities":{"extensions":{"` + ExtensionTasks + `":{}}}}`),
	}
}

// Error codes beyond JSON-RPC's own.
const (
	CodeResourceNotFound   = -32002 // legacy only
	CodeURLElicitation     = -32042 // 2025-11-25 only
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// HTTP headers.
const (
	HeaderVersion     = "Mcp-Protocol-Version"
	HeaderSession     = "Mcp-Session-Id"
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-"
	HeaderLastEvent   = "Last-Event-Id"
)

// Values of resultType.
const (
	ResultComplete      = "complete"
	ResultInputRequired = "input_required"
	ResultTask          = "task" // of the tasks extension
)

// LogLevels in rising severity (RFC 5424).
var LogLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// NotFound is the error for a resource that nobody has, in the words of the client's era.
func NotFound(modern bool, uri string) *jsonrpc.Error {
	e := jsonrpc.Errorf(CodeResourceNotFound, "Resource not found: %s", uri)
	if modern {
		e.Code = jsonrpc.CodeInvalidParams
	}
	var data jsonrpc.Object
	data.Set("uri", jsonrpc.String(uri))
	e.Data = data.JSON()
	return e
}

// InitializeParams are the params of a legacy initialize request. capabilities and info may be nil.
func InitializeParams(version string, capabilities, info json.RawMessage) json.RawMessage {
	if capabilities == nil {
		capabilities = json.RawMessage("{}")
	}
	if info == nil {
		info = json.RawMessage(`{"name":"erlmcp","version":"3"}`)
	}
	var params jsonrpc.Object
	params.Set("protocolVersion", jsonrpc.String(version))
	params.Set("capabilities", capabilities)
	params.Set("clientInfo", info)
	return params.JSON()
}
