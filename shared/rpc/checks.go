package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	optionsv1 "erlmcp.dev/proto/erlmcp/options/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/trace"
)

// DefaultDeadline is how long a unary call may take that carries no deadline of its own.
const DefaultDeadline = 30 * time.Second

// checks stand before every call, in this order: a panic becomes INTERNAL; the caller is authenticated and
// authorised; a deadline is set; the request is validated, for streams each message of the caller; what the
// service returns becomes a status. Then the call is logged at debug level, and audited where it is an
// administrative act.
type checks struct {
	authenticate func(ctx context.Context) (access.Principal, error)
	validator    protovalidate.Validator
	needs        sync.Map // full method -> optionsv1.Access, of what is registered
	audit        func(context.Context, *metricsv1.AuditEvent)
	tracer       *trace.Tracer
	measure      func(method string, code codes.Code, d time.Duration)
	strangers    strangers
	node         string
	log          *slog.Logger
}

func newChecks(node string, authenticate func(context.Context) (access.Principal, error), audit func(context.Context, *metricsv1.AuditEvent), log *slog.Logger) (*checks, error) {
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("preparing request validation: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &checks{authenticate: authenticate, validator: v, audit: audit, strangers: make(strangers, maxStrangers), node: node, log: log}, nil
}

// call is what is known of a call while it runs.
type call struct {
	method string
	began  time.Time
	need   optionsv1.Access
	caller access.Principal
}

func (c *checks) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	running := call{method: info.FullMethod, began: time.Now()}
	defer func() { c.ended(ctx, &running, req, err) }()
	defer c.recovered(&ctx, running.method, &err)
	ctx, err = c.admit(ctx, &running)
	if err != nil {
		return nil, err
	}
	if len(metadata.ValueFromIncomingContext(ctx, promptKey)) > 0 {
		_ = grpc.SendHeader(ctx, nil) // it can't be told again
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultDeadline)
		defer cancel()
	}
	if err := c.validate(req); err != nil {
		return nil, c.status(ctx, running.method, err)
	}
	ctx, span := c.tracer.Handle(ctx, running.method)
	response, err = handle(ctx, req)
	span.End(wrong(err))
	return response, c.status(ctx, running.method, err)
}

func (c *checks) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	running := call{method: info.FullMethod, began: time.Now()}
	ctx := s.Context()
	defer func() { c.ended(ctx, &running, nil, err) }()
	defer c.recovered(&ctx, running.method, &err)
	ctx, err = c.admit(ctx, &running)
	if err != nil {
		return err
	}
	ctx, span := c.tracer.Handle(ctx, running.method)
	err = handle(srv, &checkedStream{s, ctx, c})
	span.End(wrong(err))
	return c.status(ctx, running.method, err)
}

// wrong is what a trace says of an error: its code, for messages may hold what traces should not.
func wrong(err error) string {
	if err == nil {
		return ""
	}
	return status.Code(err).String()
}

// checkedStream validates what is received.
type checkedStream struct {
	grpc.ServerStream
	ctx    context.Context
	checks *checks
}

// Context implements grpc.ServerStream.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.checks.validate(m)
}

// tap turns away, before a byte of their message is taken, callers who can't say who they are. For the others it
// notes who they are.
func (c *checks) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	p, err := c.caller(metadata.NewIncomingContext(ctx, info.Header))
	if c.needOf(info.FullMethodName) == open && (err != nil || p.Method == access.MethodAnonymous) {
		return c.strangers.admit(ctx)
	}
	if err != nil {
		return ctx, err
	}
	return access.NewContext(ctx, p), nil
}

// caller finds out who calls. Its errors are statuses.
func (c *checks) caller(ctx context.Context) (access.Principal, error) {
	if p, ok := access.FromContext(ctx); ok { // tap was there
		return p, nil
	}
	p, err := c.authenticate(ctx)
	switch {
	case errors.Is(err, access.ErrUnavailable):
		return p, status.Error(codes.Unavailable, access.ErrUnavailable.Error())
	case err != nil:
		return p, status.Error(codes.Unauthenticated, access.ErrUnauthenticated.Error())
	}
	return p, nil
}

// admit finds out who calls, and whether they may. The context it returns carries them.
func (c *checks) admit(ctx context.Context, running *call) (context.Context, error) {
	running.need = c.needOf(running.method)
	if running.need == open {
		return ctx, nil
	}
	p, err := c.caller(ctx)
	if err != nil {
		return ctx, err
	}
	running.caller = p
	if err := permitted(running.need, p); err != nil {
		return ctx, err
	}
	return access.NewContext(ctx, p), nil
}

// ended is told of every call's end.
func (c *checks) ended(ctx context.Context, running *call, req any, err error) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.DebugContext(ctx, "a call ended", "method", running.method, "principal", running.caller.ID,
			"code", status.Code(err).String(), "duration", time.Since(running.began))
	}
	if c.measure != nil {
		c.measure(running.method, status.Code(err), time.Since(running.began))
	}
	// Those who can't say who they are would fill the audit trail with nothing.
	if c.audit != nil && running.need == optionsv1.Access_ACCESS_ADMIN && running.caller.ID != "" {
		c.audit(context.WithoutCancel(ctx), auditEvent(c.node, running, req, err))
	}
}
