// Package orderdesk is a small gRPC service as anybody might have one: the order desk of a shop, in memory. It
// shows how a service becomes tools of MCP clients without knowing MCP: it registers server reflection.
//
// Three things in it make better tools. Every method and field has a comment in v1/orderdesk.proto, and
// reflection.go has reflection carry the comments. Every method says by its idempotency_level whether a call
// may be repeated. And errors have the right code, with details.
//
// The package must not know erlmcp. Start at server.go, then desk.go.
package orderdesk
