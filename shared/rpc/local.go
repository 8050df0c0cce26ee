package rpc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/trace"
)

// Local is the channel to services of the same process: register them, and call them over it. Calls pass the
// same checks as those from the network, only that the caller is a service without having to prove it. As over
// the network, no two sides ever hold the same message, a handler sees none of the caller's context values, and a
// call whose context ends returns although its handler may not. Local is safe for concurrent use.
type Local struct {
	checks  *checks
	methods atomic.Pointer[map[string]localMethod] // by full name; replaced as a whole

	mu      sync.Mutex // guards what follows, and registration
	running int
	closed  bool
	idle    chan struct{} // closed when the last call ended after Close
}

// localMethod is one method of a registered service: unary is nil for streams.
type localMethod struct {
	service any
	unary   grpc.MethodHandler
	stream  *grpc.StreamDesc
}

var (
	_ grpc.ServiceRegistrar    = (*Local)(nil)
	_ grpc.ClientConnInterface = (*Local)(nil)
)

// LocalConfig is what a Local needs.
type LocalConfig struct {
	// Node is this process's name: its services call as it.
	Node string
	// Audit is as in [ServerConfig].
	Audit func(ctx context.Context, event *metricsv1.AuditEvent)
	// Tracer traces calls that belong to a trace; nil traces none.
	Tracer *trace.Tracer
	Log    *slog.Logger
}

// NewLocal makes a Local.
func NewLocal(config LocalConfig) (*Local, error) {
	checks, err := newChecks(config.Node, asService(config.Node), config.Audit, config.Log)
	if err != nil {
		return nil, err
	}
	checks.tracer = config.Tracer
	l := &Local{checks: checks, idle: make(chan struct{})}
	l.methods.Store(&map[string]localMethod{})
	return l, nil
}

// RegisterService implements grpc.ServiceRegistrar. It panics as [Server.RegisterService] does.
func (l *Local) RegisterService(description *grpc.ServiceDesc, implementation any) {
	l.checks.permit(description)
	l.mu.Lock()
	defer l.mu.Unlock()
	methods := maps.Clone(*l.methods.Load())
	for _, m := range description.Methods {
		methods["/"+description.ServiceName+"/"+m.MethodName] = localMethod{service: implementation, unary: m.Handler}
	}
	for i := range description.Streams {
		s := &description.Streams[i]
		methods["/"+description.ServiceName+"/"+s.StreamName] = localMethod{service: implementation, stream: s}
	}
	l.methods.Store(&methods)
}

// Close refuses further calls with UNAVAILABLE, and waits until those that run have ended or ctx has.
func (l *Local) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		if l.running == 0 {
			close(l.idle)
		}
	}
	l.mu.Unlock()
	select {
	case <-l.idle:
		return nil
	case <-ctx.Done():
		return errors.New("calls inside the process did not end in time")
	}
}

// begin counts a call in; each one needs its end.
func (l *Local) begin(ctx context.Context, method string, stream bool) (localMethod, error) {
	if err := ctx.Err(); err != nil {
		return localMethod{}, status.FromContextError(err).Err()
	}
	m, ok := (*l.methods.Load())[method]
	if !ok || (m.stream != nil) != stream {
		return m, status.Errorf(codes.Unimplemented, "no service of this process has the method %s", strings.TrimPrefix(method, "/"))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return m, status.Error(codes.Unavailable, "the process is stopping")
	}
	l.running++
	return m, nil
}

func (l *Local) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running--; l.running == 0 && l.closed {
		close(l.idle)
	}
}

// detached is a caller's context as its handler sees it: it ends with it, and has none of its values.
type detached struct{ context.Context }

// Value implements context.Context.
func (detached) Value(any) any { return nil }

// AfterFunc spares the context package a goroutine for each context made from this one.
func (d detached) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(d.Context, f) }

// handlerContext makes the context of a call's handler. What the caller sends as metadata comes in as such.
func handlerContext(ctx context.Context, stream grpc.ServerTransportStream) context.Context {
	md, sent := metadata.FromOutgoingContext(trace.Outgoing(ctx))
	ctx = detached{ctx}
	if sent {
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	return grpc.NewContextWithServerTransportStream(grpcpeer.NewContext(ctx, &localPeer), stream)
}

var localPeer = grpcpeer.Peer{Addr: localAddr{}}

// localAddr is the address of this process.
type localAddr struct{}

func (localAddr) Network() string { return "local" }
func (localAddr) String() string  { return "local" }

// localHeaders are the metadata that a handler sends: before the first message, and with the end.
type localHeaders struct {
	method string

	mu              sync.Mutex
	header, trailer metadata.MD
	sent            bool
	onSent          func() // called once, when the header can't change any more; may be nil
}

var _ grpc.ServerTransportStream = (*localHeaders)(nil)

// Method implements grpc.ServerTransportStream.
func (h *localHeaders) Method() string { return h.method }

// SetHeader implements grpc.ServerTransportStream.
func (h *localHeaders) SetHeader(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent {
		return status.Error(codes.Internal, "the header was sent already")
	}
	h.header = metadata.Join(h.header, md)
	return nil
}

// SendHeader implements grpc.ServerTransportStream.
func (h *localHeaders) SendHeader(md metadata.MD) error {
	if err := h.SetHeader(md); err != nil {
		return err
	}
	h.send()
	return nil
}

// send makes the header final.
func (h *localHeaders) send() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.sent {
		h.sent = true
		if h.onSent != nil {
			h.onSent()
		}
	}
}

// SetTrailer implements grpc.ServerTransportStream.
func (h *localHeaders) SetTrailer(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trailer = metadata.Join(h.trailer, md)
	return nil
}

// get returns copies of what was set: their readers may keep and change them.
func (h *localHeaders) get() (header, trailer metadata.MD) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.header.Copy(), h.trailer.Copy()
}

// finished gives call options what they wait for.
func (h *localHeaders) finished(options []grpc.CallOption, err error) {
	if len(options) == 0 {
		return
	}
	header, trailer := h.get()
	for _, option := range options {
		switch o := option.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = localPeer
		case grpc.OnFinishCallOption:
			o.OnFinish(err)
		}
	}
}
