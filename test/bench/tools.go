package bench

import (
	"encoding/json"
	"fmt"
)

// ToolCount is how many tools the upstream server lists; the list is some 383 KB of JSON.
const ToolCount = 1000

const echoTool = "echo"

// toolList is the array of tools: echo, and others that are only listed.
func toolList() json.RawMessage {
	type object map[string]any
	text := func(about string) object { return object{"type": "string", "description": about} }
	tools := make([]object, 0, ToolCount)
	tools = append(tools, object{
		"name":        echoTool,
		"description": "Gives back the message.",
		"inputSchema": object{"type": "object", "properties": object{"message": text("What to give back.")}, "required": []string{"message"}},
		"annotations": object{"readOnlyHint": true, "idempotentHint": true},
	})
	for i := 1; i < ToolCount; i++ {
		tools = append(tools, object{
			"name":        fmt.Sprintf("record_%04d", i),
			"description": fmt.Sprintf("Looks up record %d and gives the fields that were asked for, oldest version first.", i),
			"inputSchema": object{
				"type": "object",
				"properties": object{
					"key":    text("Which record to look up."),
					"fields": object{"type": "array", "items": object{"type": "string"}},
					"limit":  object{"type": "integer", "minimum": 1},
				},
				"required": []string{"key"},
			},
			"annotations": object{"readOnlyHint": true},
		})
	}
	list, err := json.Marshal(tools)
	if err != nil {
		panic(err) // constants
	}
	return list
}
