// Package channel serves MCP on a duplex connection of framed messages, such as a WebSocket, a TCP connection or
// standard streams (specification 2026-07-28, custom transports). Both eras work on one connection and are told
// apart message by message; a legacy session is opened by initialize and may be taken up again on another
// connection. It must not know how messages are framed, nor who may connect. Start at [Server.Serve].
package channel
