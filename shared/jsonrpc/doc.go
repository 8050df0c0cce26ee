// Package jsonrpc reads and writes JSON-RPC 2.0 messages without decoding what they carry: ids, params and
// results stay the bytes that came. It must not know MCP. Start at [Parse] and [Object].
package jsonrpc
