package era

import (
	"bytes"
	"encoding/json"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Kinds of content that a revision brought. Clients of older ones refuse a result that holds them.
const (
	audio        = "audio"         // 2025-03-26
	resourceLink = "resource_link" // 2025-06-18
)

// ResultForRevision says in text what a client of an older revision has no kind of content for. Everything else stays
// as it came, and for newer clients everything does.
func ResultForRevision(method, version string, result json.RawMessage) json.RawMessage {
	if version == "" || version >= mcp.V2025_06_18 || !bytes.Contains(result, []byte(resourceLink)) && !bytes.Contains(result, []byte(audio)) {
		return result
	}
	switch method {
	case mcp.MethodToolsCall:
		if content := jsonrpc.Get(result, "content"); content != nil {
			return jsonrpc.With(result, each(content, func(block []byte) []byte { return blockFor(version, block) }), "content")
		}
	case mcp.MethodPromptsGet:
		if messages := jsonrpc.Get(result, "messages"); messages != nil {
			return jsonrpc.With(result, each(messages, func(message []byte) []byte {
				block := jsonrpc.Get(message, "content")
				if changed := blockFor(version, block); !bytes.Equal(changed, block) {
					return jsonrpc.With(message, changed, "content")
				}
				return message
			}), "messages")
		}
	}
	return result
}

// each makes an array of what become of an array's elements; what is no array stays.
func each(array json.RawMessage, become func([]byte) []byte) json.RawMessage {
	if len(array) == 0 || array[0] != '[' {
		return array
	}
	var all [][]byte
	jsonrpc.Elements(array, func(e []byte) bool {
		all = append(all, become(e))
		return true
	})
	return append(append([]byte{'['}, bytes.Join(all, []byte{','})...), ']')
}

// blockFor is a block of content as a revision knows it.
func blockFor(version string, block []byte) []byte {
	kind, _ := jsonrpc.GetString(block, "type")
	var text string
	switch {
	case kind == resourceLink && version < mcp.V2025_06_18:
		uri, _ := jsonrpc.GetString(block, "uri")
		name, ok := jsonrpc.GetString(block, "title")
		if !ok {
			name, _ = jsonrpc.GetString(block, "name")
		}
		text = name + ": " + uri
	case kind == audio && version < mcp.V2025_03_26:
		mime, _ := jsonrpc.GetString(block, "mimeType")
		text = "Audio (" + mime + "), which this client's revision of the protocol can't carry."
	default:
		return block
	}
	var said jsonrpc.Object
	said.Set("type", jsonrpc.String("text"))
	said.Set("text", jsonrpc.String(text))
	if annotations := jsonrpc.Get(block, "annotations"); annotations != nil {
		said.Set("annotations", annotations)
	}
	return said.JSON()
}
