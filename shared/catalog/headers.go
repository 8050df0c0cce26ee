package catalog

import "erlmcp.dev/shared/mcp"

// HeaderParams returns a tool's arguments that are mirrored in headers.
func (e *Entry) HeaderParams() []mcp.HeaderParam { return e.headers }
