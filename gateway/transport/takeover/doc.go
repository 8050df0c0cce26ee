// Package takeover takes connections that stay open, event streams and WebSockets, from the HTTP server. What the server
// keeps for a request, buffers, the request itself, and a goroutine deep in its handler, is more than a quiet client
// costs here. It must not know what is sent. Start at [Conn] and [Stream].
package takeover
