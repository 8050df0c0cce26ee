package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/trace"
	"erlmcp.dev/shared/upstream"
)

// Engine serves MCP. It is safe for concurrent use.
type Engine struct {
	config     Config
	serverInfo json.RawMessage
	changes    changes
}

// Config is what an Engine needs.
type Config struct {
	Catalog Catalog
	// Servers reaches servers that need no owner.
	Servers Servers
	// Owners reaches the owners of sessions and of stateful upstream ends.
	Owners Owners
	// Sealer makes and opens session ids and request states.
	Sealer Sealer
	Meter  Meter
	// Tracer traces requests; nil traces none.
	Tracer *trace.Tracer
	// Limiter bounds how often a principal asks; nil for no bound.
	Limiter Limiter
	// SlowTasks says that owners make tasks of slow calls where a server's declaration says nothing else, so that
	// calls which may become one must go there.
	SlowTasks bool
	// InputWait is how long a client may take to answer an input_required result; 10 minutes when 0.
	InputWait time.Duration
	// Draining ends when the gateway begins to stop: subscriptions end then, so that their clients go elsewhere.
	Draining context.Context
	// Version of erlmcp, told to clients.
	Version string
	Log     *slog.Logger
}

// Catalog is the gateway's copy of the registry.
type Catalog interface {
	Current() *catalog.Catalog
}

// Servers lends the shared connection to a server that keeps no session. done ends the loan.
type Servers interface {
	Peer(ctx context.Context, server *registryv1.CatalogServer) (peer upstream.Peer, done func(), err error)
}

// Owners finds the owners of sessions. Errors are gRPC statuses of SessionService.
type Owners interface {
	// Open opens a session at some owner.
	Open(ctx context.Context, req *sessionv1.OpenSessionRequest) (*sessionv1.SessionFacts, error)
	// Facts says who owns a session; usually from memory.
	Facts(ctx context.Context, sessionID string) (*sessionv1.SessionFacts, error)
	// FactsAnew is Facts without memory. unreachable is the address of the owner that could not be reached, if any.
	FactsAnew(ctx context.Context, sessionID, unreachable string) (*sessionv1.SessionFacts, error)
	// Forget drops what Facts remembers of a session.
	Forget(sessionID string)
	// Session is the session service at an owner's address.
	Session(address string) (sessionv1.SessionServiceClient, error)
	// Silent ends when the owner at an address, though it is connected, has not been heard of for some seconds.
	Silent(address string) context.Context
	// Home is the address of the owner that a principal's calls to a server go to where no session says more; empty
	// where none is known.
	Home(principal, server string) string
	// Upstream is the upstream service at an owner's address, or of any owner where that is empty.
	Upstream(address string) (sessionv1.UpstreamServiceClient, error)
	// Tasks is the task service at an owner's address, or, when it is empty, at some owner.
	Tasks(address string) (sessionv1.TaskServiceClient, error)
}

// Sealer makes tokens that only services of this cluster can make or read.
type Sealer interface {
	Seal(purpose string, plaintext, bound []byte) string
	Open(purpose, token string, bound []byte) ([]byte, error)
}

// Meter counts what clients ask for.
type Meter interface {
	// Request is called once for each request that was answered.
	Request(r Measured)
}

// Limiter bounds how often principals ask.
type Limiter interface {
	// Wait counts a request: 0 when it may go on, else how long its principal should wait before the next.
	Wait(ctx context.Context, principal string) time.Duration
}

// Measured is one answered request.
type Measured struct {
	Transport, Method, Principal string
	Tenant                       string // the principal's
	Server, Name                 string // of calls
	Failed                       bool   // a JSON-RPC error, or a result with isError
	Duration                     time.Duration
	Trace                        string // id of the trace that is kept of it, in hex; empty for none
}

// trace begins the span of a client's request. A subscription, which may last for days, has none.
func (e *Engine) trace(ctx context.Context, c Client, m *jsonrpc.Message) (context.Context, *trace.Span) {
	if m.Method == mcp.MethodListen {
		return ctx, nil
	}
	return e.config.Tracer.Serve(ctx, c.Transport, m.Method, m.Params, c.Header)
}

// measure ends a request's measuring and its span.
func (e *Engine) measure(ctx context.Context, span *trace.Span, measured *Measured, start time.Time) {
	measured.Duration = time.Since(start)
	if span != nil {
		measured.Trace = trace.ID(ctx)
		span.Named(measured.Server, measured.Name)
		message := ""
		if measured.Failed {
			message = "answered with an error"
		}
		span.End(message)
	}
	e.config.Meter.Request(*measured)
}

// New makes an Engine.
func New(config Config) *Engine {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.InputWait == 0 {
		config.InputWait = 10 * time.Minute
	}
	var info jsonrpc.Object
	info.Set("name", jsonrpc.String("erlmcp"))
	info.Set("title", jsonrpc.String("erlmcp gateway"))
	info.Set("version", jsonrpc.String(config.Version))
	return &Engine{config: config, serverInfo: info.JSON()}
}

// Client is who sends a message, and over what.
type Client struct {
	Principal access.Principal
	// View is the one that the client asked for; empty for everything.
	View string
	// Transport is the metrics label of the transport, such as "http".
	Transport string
	// Header holds the HTTP request's headers, which a modern request must repeat itself in; nil on
	// transports without headers.
	Header http.Header
	// Standing says that all that comes of the requests of a session reaches the client on the session's standing stream.
	Standing bool
}

// Stream takes the messages that belong to a request and come before its answer.
type Stream interface {
	// Send takes a message, and the id to resume from where the stream can be resumed. A nil message only
	// tells an id; without one, that the session's owner took the request of a client that is Standing. An error means
	// that the client is gone.
	Send(id string, message []byte) error
}

// Reply is the answer to one message.
type Reply struct {
	// Status is the HTTP status that the specification asks for.
	Status int
	// Body is the JSON-RPC message in pieces, to be written one behind the other; nil for none.
	Body [][]byte
	// EventID is the id to resume behind, where the answer came on a stream that can be resumed.
	EventID string
	// RetryAfter is how long the client should wait before it asks again; 0 for not at all.
	RetryAfter time.Duration
}

// Message is the body in one piece; nil for none.
func (r Reply) Message() []byte {
	var b []byte
	for _, part := range r.Body {
		b = append(b, part...)
	}
	return b
}

func (e *Engine) view(name string) (*catalog.View, bool) {
	return e.config.Catalog.Current().View(name)
}

// HasView reports whether there is a view or server of that name.
func (e *Engine) HasView(name string) bool {
	_, ok := e.view(name)
	return ok
}

func success(id, result json.RawMessage) Reply {
	return Reply{Status: http.StatusOK, Body: [][]byte{jsonrpc.Response(id, result)}}
}

func failure(id json.RawMessage, status int, err *jsonrpc.Error) Reply {
	return Reply{Status: status, Body: [][]byte{jsonrpc.ErrorResponse(id, err.JSON())}}
}

// Stopping is the error of a request that came too late to a gateway that stops: it was not carried out.
func Stopping() *jsonrpc.Error {
	return upstream.NotSent("this gateway is stopping; the request was not carried out, send it again on a new connection")
}

// Malformed is the reply to bytes that are no message: an error of jsonrpc.Parse or jsonrpc.Batch.
func Malformed(m jsonrpc.Message, err error) Reply {
	return failure(m.ID, http.StatusBadRequest, parseError(err))
}
