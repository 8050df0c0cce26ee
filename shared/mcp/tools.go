package mcp

import (
	"bytes"
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
	if misplaced(schema, len(params)) {
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

// maxSearched is the longest schema that is searched for what only looks like an annotation, in bytes.
const maxSearched = 1 << 20

// misplaced reports whether a schema has more x-mcp-header annotations than were found at arguments.
func misplaced(schema json.RawMessage, found int) bool {
	if bytes.Count(schema, []byte(`"x-mcp-header"`)) <= found { // nearly always
		return false
	}
	return len(schema) > maxSearched || annotations(schema) > found
}

// annotations counts the x-mcp-header keywords of a JSON schema and the schemas in it. An argument may have the
// same name, and a value may say so.
func annotations(schema json.RawMessage) int {
	if len(schema) > 0 && schema[0] == '[' {
		n := 0
		jsonrpc.Elements(schema, func(e []byte) bool {
			n += annotations(e)
			return true
		})
		return n
	}
	n := 0
	keywords, _ := jsonrpc.ParseObject(schema)
	for _, keyword := range keywords.Keys() {
		value := keywords.Get(keyword)
		switch keyword {
		case "x-mcp-header":
			n++
		case "const", "default", "enum", "examples": // values, no schemas
		case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
			named, _ := jsonrpc.ParseObject(value)
			for _, name := range named.Keys() {
				n += annotations(named.Get(name))
			}
		default:
			n += annotations(value)
		}
	}
	return n
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
