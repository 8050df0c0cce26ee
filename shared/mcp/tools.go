package mcp

import (
	"encoding/json"
	"fmt"
	"strings"

	"erlmcp.dev/shared/jsonrpc"
)

// CheckTool says why a client must not show a tool to a model, or nil: its name, or an x-mcp-header annotation
// that breaks the rules (specification 2026-07-28, server/tools and streamable-http).
func CheckTool(tool json.RawMessage) error {
	name, ok := jsonrpc.GetString(tool, "name")
	if !ok || !validToolName(name) {
		return fmt.Errorf("its name must have 1 to 128 of A-Z, a-z, 0-9, '_', '-', '.' and '/'")
	}
	schema := jsonrpc.Get(tool, "inputSchema")
	params := HeaderParams(schema)
	if n := strings.Count(string(schema), `"x-mcp-header"`); n > len(params) {
		return fmt.Errorf("an x-mcp-header annotation stands where no argument of its own is")
	}
	seen := map[string]bool{}
	for _, p := range params {
		lower := strings.ToLower(p.Header)
		switch {
		case !isToken(p.Header):
			return fmt.Errorf("the x-mcp-header %q is no header name", p.Header)
		case seen[lower]:
			return fmt.Errorf("the x-mcp-header %q stands twice", p.Header)
		case p.Type != "string" && p.Type != "integer" && p.Type != "boolean":
			return fmt.Errorf("the x-mcp-header %q is not at a string, integer or boolean", p.Header)
		}
		seen[lower] = true
	}
	return nil
}

func validToolName(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-./", c) >= 0) {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 9110.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
