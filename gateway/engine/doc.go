// Package engine is the protocol: one message of a client in, messages out. It serves both eras of MCP, for
// every transport. Lists and discovery it answers from the catalogue; a call goes straight to a server that
// keeps no session, and to an owner otherwise. It holds nothing that a client would miss.
//
// It must not know framing or connections (gateway/transport), nor how a server is reached (shared/upstream)
// or an owner found (gateway/owners). Start at [Engine.Modern] and [Engine.Session].
package engine
