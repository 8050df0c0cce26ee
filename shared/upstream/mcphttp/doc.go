// Package mcphttp calls MCP servers over HTTP: [Modern] for revision 2026-07-28, [Legacy] for Streamable HTTP
// with or without a session, [SSE] for the transport of 2024-11-05. It must not know whose calls these are.
// Start at [NewModern], [Initialize] and [OpenSSE].
package mcphttp
