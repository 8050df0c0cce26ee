package catalog

import (
	"encoding/json"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Repeatable reports whether a request may be carried out twice at a server: it only reads, or a second time changes
// nothing more. Of tools their annotations say so, or their server's declaration. params have the server's own names.
func (c *Catalog) Repeatable(server, method string, params json.RawMessage) bool {
	if method != mcp.MethodToolsCall {
		return true // prompts, resources, completions, subscriptions
	}
	switch c.Server(server).GetServer().GetRepeat() {
	case registryv1.Repeat_REPEAT_NEVER:
		return false
	case registryv1.Repeat_REPEAT_ALWAYS:
		return true
	}
	view, ok := c.View(server)
	name, named := jsonrpc.GetString(params, "name")
	if !ok || !named {
		return false
	}
	tool := view.Find(Tools, name)
	return tool != nil && tool.repeatable
}

// repeatable reads a tool's annotations.
func repeatable(tool json.RawMessage) bool {
	hint := func(name string) bool { return string(jsonrpc.Get(tool, "annotations", name)) == "true" }
	return hint("readOnlyHint") || hint("idempotentHint")
}
