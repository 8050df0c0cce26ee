package grpcreflect

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // services may compress their answers
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// Peer calls one gRPC server's methods as tools. It is safe for concurrent use.
type Peer struct {
	config   Config
	metadata metadata.MD
	conn     *grpc.ClientConn
	connects *atomic.Uint64
	closed   atomic.Bool

	methods atomic.Pointer[methods]
	// reading has room for the one who reads descriptors.
	reading chan struct{}
	// failure is the last read's; it belongs to the reader.
	failure struct {
		err error
		at  time.Time
	}
}

var _ upstream.Peer = (*Peer)(nil)

// Open makes a Peer. It does not wait for the server: the connection and the descriptors come with the first
// call, and are renewed when the server was. The error says what is wrong with the configuration.
func Open(ctx context.Context, config Config) (*Peer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	if config.Target == "" {
		return nil, errors.New(`no target: give the gRPC server's address, such as "orders:50051"`)
	}
	outgoing, err := config.outgoing()
	if err != nil {
		return nil, err
	}
	p := &Peer{config: config, metadata: outgoing, connects: new(atomic.Uint64), reading: make(chan struct{}, 1)}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, 5*time.Second
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(counted{transportCredentials(config.TLS), p.connects}),
		// A retry policy from the resolver could carry out a call twice.
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		// Pings more often than every five minutes make servers hang up; the timeout is also the kernel's
		// for data that is not acknowledged, and so finds dead connections with calls on them soon.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(config.MaxMessage)),
		grpc.WithUserAgent("erlmcp"),
	}, config.Dial...)
	if p.conn, err = grpc.NewClient(config.Target, options...); err != nil {
		return nil, fmt.Errorf("the gRPC target %q cannot be used: %w", config.Target, err)
	}
	return p, nil
}

func transportCredentials(config *tls.Config) credentials.TransportCredentials {
	if config == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(config)
}

// counted counts the connections that are made: behind a new one there may be a new release of the service.
type counted struct {
	credentials.TransportCredentials
	connects *atomic.Uint64
}

func (c counted) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c.connects.Add(1)
	return c.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (c counted) Clone() credentials.TransportCredentials {
	return counted{c.TransportCredentials.Clone(), c.connects}
}

// Call carries out tools/call; a gRPC service answers nothing else. req.Params must be checked JSON, as
// jsonrpc.Parse leaves it. What the service answers, errors included, is a result; an error is
// upstream.ErrNotSent, ErrRefused (no reflection), ErrClosed, or ctx's.
func (p *Peer) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	if req.Method != mcp.MethodToolsCall {
		return refused(jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s (the server is a gRPC service and offers tools only)", req.Method)), nil
	}
	c, rpcErr := parseCall(req, from)
	if rpcErr != nil {
		return refused(rpcErr), nil
	}
	known, err := p.current(ctx)
	if err != nil {
		return upstream.Reply{}, err
	}
	m, arguments, err := known.prepare(c)
	if err != nil {
		// The service may have changed behind a proxy that kept its connection.
		if known, err = p.renewed(ctx, known); err != nil {
			return upstream.Reply{}, err
		}
		m, arguments, err = known.prepare(c)
	}
	switch {
	case m == nil:
		return refused(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "Unknown tool: %s", c.tool)), nil
	case err != nil:
		return upstream.Reply{Result: errorResult(fmt.Sprintf("The arguments do not fit %s: %v", m.tool, err), nil)}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.CallTimeout, errCallTimeout)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, p.outgoing(req, c.meta))
	if m.streams {
		return p.stream(ctx, m, arguments, c)
	}
	return p.unary(ctx, m, arguments)
}

func refused(err *jsonrpc.Error) upstream.Reply { return upstream.Reply{Error: err.JSON()} }

// Notify drops the notification: a gRPC service has no place for it. A call is cancelled by its context.
func (p *Peer) Notify(context.Context, string, json.RawMessage) error {
	if p.closed.Load() {
		return upstream.ErrClosed
	}
	return nil
}

// Close ends the connection and all calls on it.
func (p *Peer) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	return p.conn.Close()
}

// current returns the server's methods, and reads them where they are not known or the connection is new.
func (p *Peer) current(ctx context.Context) (*methods, error) {
	known := p.methods.Load()
	if known != nil && known.connects == p.connects.Load() {
		return known, nil
	}
	fresh, err := p.read(ctx, known)
	if err != nil && known != nil && ctx.Err() == nil {
		// The call will tell whether the service is there, and does not need its reflection.
		p.config.Log.WarnContext(ctx, "cannot read the service's descriptors again; the old ones stay in use", "target", p.config.Target, "error", err)
		kept := known.again()
		kept.connects = p.connects.Load()
		p.methods.CompareAndSwap(known, kept)
		return kept, nil
	}
	return fresh, err
}

// renewed returns methods newer than those known, unless these are young and from this connection.
func (p *Peer) renewed(ctx context.Context, known *methods) (*methods, error) {
	if time.Since(known.read) < rereadAfter && p.conn.GetState() == connectivity.Ready {
		return known, nil
	}
	fresh, err := p.read(ctx, known)
	if err != nil && ctx.Err() == nil {
		return known, nil // their verdict stands
	}
	return fresh, err
}

// read reads the server's methods, unless somebody else did since known was loaded. One reads at a time; who
// waited for a read that failed shares its error.
func (p *Peer) read(ctx context.Context, known *methods) (*methods, error) {
	start := time.Now()
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if now := p.methods.Load(); now != known {
		return now, nil
	}
	if p.failure.err != nil && p.failure.at.After(start) {
		return nil, p.failure.err
	}
	fresh, err := p.readMethods(ctx, known)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p.failure.err, p.failure.at = err, time.Now()
		return nil, err
	}
	p.failure.err = nil
	p.methods.Store(fresh)
	return fresh, nil
}

func (p *Peer) readMethods(ctx context.Context, known *methods) (*methods, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.DescribeTimeout)
	defer cancel()
	found, err := p.readDescriptors(metadata.NewOutgoingContext(ctx, p.metadata))
	if err != nil {
		return nil, p.readError(err)
	}
	var fresh *methods
	if known != nil && known.digest == found.digest {
		fresh = known.again()
	} else if fresh, err = newMethods(found, p.config); err != nil {
		return nil, fmt.Errorf("the descriptors of %s: %w: %w", p.config.Target, upstream.ErrRefused, err)
	}
	fresh.connects, fresh.read = found.connects, time.Now()
	return fresh, nil
}

// readError says in upstream's words why descriptors could not be read. Nothing was called by then, so most
// failures are ErrNotSent.
func (p *Peer) readError(err error) error {
	if p.closed.Load() {
		return upstream.ErrClosed
	}
	what := fmt.Sprintf("reading the descriptors of %s by server reflection", p.config.Target)
	switch status.Code(err) {
	case codes.Unimplemented:
		return fmt.Errorf("%s: %w: it has no server reflection; register grpc.reflection.v1 in it", what, upstream.ErrRefused)
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w: %w", what, upstream.ErrNotSent, err)
	}
	return fmt.Errorf("%s: %w: %w", what, upstream.ErrRefused, err)
}
