// Package upstream says what it is to call a server behind erlmcp, whatever that server speaks. Each package
// below it implements [Peer] for one way: mcphttp (MCP over HTTP, both eras), mcpio (MCP over a program's
// standard streams), grpcreflect (gRPC services as tools). They must not know sessions, clients or catalogues.
package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// Peer is a conversation with one upstream server. It is safe for concurrent use.
type Peer interface {
	// Call sends a request and waits for its answer. What the server sends before the answer goes to from,
	// in order, from one goroutine at a time; from may be nil. Ending ctx cancels the request at the server
	// too. The error is nil where the server answered, with a result or with an error object; else it is one
	// of the sentinels below, wrapped, or ctx's.
	Call(ctx context.Context, req Request, from Listener) (Reply, error)
	// Notify sends a notification. Peers that have no place for it drop it.
	Notify(ctx context.Context, method string, params json.RawMessage) error
	// Close ends the conversation and all calls on it.
	Close() error
}

// Request is one request to a server.
type Request struct {
	Method string
	// Params as the client sent them, with the server's own names, and for a modern peer with the modern
	// _meta; nil for none.
	Params json.RawMessage
	// Journal hears what it takes to go on with the call in another process. Optional, and kept by few Peers.
	Journal Journal
	// Headers that travel with the request where the server is reached over HTTP: Mcp-Param-*, traceparent.
	Headers http.Header
}

// Journal hears where a call stands at a server that can be asked for the rest of its answer.
type Journal interface {
	// Sent tells the id that the request has there.
	Sent(id int64)
	// At tells a position in the answer: all before it was passed on.
	At(position string)
}

// Continuer is a Peer whose conversation, with the calls on it, outlives this process.
type Continuer interface {
	// Continue hears the rest of the answer to a call that another process began, as Peer.Call does. ErrLost where
	// the server does not tell it.
	Continue(ctx context.Context, c Continued, from Listener) (Reply, error)
	// Leave is Peer.Close, but that the conversation goes on at the server, and calls whose ctx ended for ErrLeft. It is
	// called once all calls have returned.
	Leave()
}

// Continued is a call that another process began.
type Continued struct {
	// ID and Position are what its Journal was told.
	ID       int64
	Position string
	// Token is the caller's progress token; nil for none.
	Token json.RawMessage
	// Patience is how long a server is asked again that says that the other process still hears the answer: it may
	// only be frozen.
	Patience time.Duration
}

// Reply is a server's answer: Result or Error is set.
type Reply struct {
	Result json.RawMessage
	Error  json.RawMessage
	// Status is the HTTP status that came with it; 0 where there was none.
	Status int
}

// Listener hears what a server sends besides answers.
type Listener interface {
	// Notification takes a one-way message. It must not block for long.
	Notification(method string, params json.RawMessage)
	// Request answers a request of a legacy server (sampling, elicitation, roots, ping), and may wait for a
	// human to do so. Exactly one of result and err is set. ctx ends once the server has the answer, or wants none.
	Request(ctx context.Context, method string, params json.RawMessage) (result json.RawMessage, err *jsonrpc.Error)
}

// Orderer is a Listener to whom it matters in which order the server asked.
type Orderer interface {
	Listener
	// Next is called for one request after the other as they come, and gives who answers it. It must not block.
	Next(method string, params json.RawMessage) Listener
}

// Errors of a Call. Whether a request that failed may be sent again depends on which it is.
var (
	// ErrNotSent: the request never reached the server; sending it again repeats nothing.
	ErrNotSent = errors.New("the server could not be reached")
	// ErrLost: the request was sent and no answer came; whether it was carried out is unknown.
	ErrLost = errors.New("the server's answer was lost")
	// ErrRefused: the server, or something before it, answered with something that is no MCP.
	ErrRefused = errors.New("the server refused the request")
	// ErrSessionGone: the server forgot the session. The request was not carried out.
	ErrSessionGone = errors.New("the server ended the session")
	// ErrTooLarge: the answer exceeds the limit.
	ErrTooLarge = errors.New("the server's answer is too large")
	// ErrLeft, as the cause of a ctx's end, leaves a call to another process: the server is not told to give it up.
	ErrLeft = errors.New("another process goes on with the call")
	// ErrClosed: the Peer was closed.
	ErrClosed = errors.New("the connection to the server is closed")
)

// StatusError is an HTTP answer that carries no JSON-RPC message. It wraps ErrRefused.
type StatusError struct {
	Status int
	// WWWAuthenticate is the challenge of a 401 or 403.
	WWWAuthenticate string
}

// Error implements error. The body is not quoted: it may hold what clients should not see.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%v with HTTP status %d", ErrRefused, e.Status)
}

// Unwrap makes errors.Is(err, ErrRefused) true.
func (e *StatusError) Unwrap() error { return ErrRefused }

// ToldError is an error with a reason that clients may be told.
type ToldError struct {
	// Reason follows "the server can't be reached: ", such as "its program ended (exit status 1)".
	Reason string
	// Err is one of the errors above, wrapped.
	Err error
}

// Error implements error.
func (e *ToldError) Error() string { return e.Err.Error() + ": " + e.Reason }

// Unwrap makes errors.Is find Err.
func (e *ToldError) Unwrap() error { return e.Err }

// Limits that every Peer keeps.
const (
	// MaxMessage is the longest message that is read from a server, in bytes, unless a Peer is told otherwise.
	MaxMessage = 64 << 20
)
