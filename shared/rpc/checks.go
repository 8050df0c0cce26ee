package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "erlmcp.dev/proto/erlmcp/options/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
)

// DefaultDeadline is how long a unary call may take that carries no deadline of its own.
const DefaultDeadline = 30 * time.Second

// credentialKey is the metadata key of service credentials.
const credentialKey = "erlmcp-service"

// checks stand before every call, in this order: a panic becomes INTERNAL; the caller is authenticated and
// authorised; a deadline is set; the request is validated; what the service returns becomes a status.
type checks struct {
	authenticate func(ctx context.Context) (access.Principal, error)
	validator    protovalidate.Validator
	log          *slog.Logger
}

func newChecks(authenticate func(context.Context) (access.Principal, error), log *slog.Logger) (*checks, error) {
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("preparing request validation: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &checks{authenticate: authenticate, validator: v, log: log}, nil
}

func (c *checks) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	defer c.recovered(info.FullMethod, &err)
	ctx, err = c.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultDeadline)
		defer cancel()
	}
	if err := c.validate(req); err != nil {
		return nil, err
	}
	response, err = handle(ctx, req)
	return response, c.status(info.FullMethod, err)
}

func (c *checks) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer c.recovered(info.FullMethod, &err)
	ctx, err := c.admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return c.status(info.FullMethod, handle(srv, &checkedStream{s, ctx, c}))
}

// checkedStream validates what is received.
type checkedStream struct {
	grpc.ServerStream
	ctx    context.Context
	checks *checks
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.checks.validate(m)
}

func (c *checks) admit(ctx context.Context, method string) (context.Context, error) {
	if strings.HasPrefix(method, "/grpc.health.v1.") {
		return ctx, nil
	}
	p, err := c.authenticate(ctx)
	switch {
	case errors.Is(err, access.ErrUnavailable):
		return nil, status.Error(codes.Unavailable, err.Error())
	case err != nil:
		return nil, status.Error(codes.Unauthenticated, access.ErrUnauthenticated.Error())
	}
	if err := Authorize(method, p); err != nil {
		return nil, err
	}
	return access.NewContext(ctx, p), nil
}

// Authorize says whether a principal may call a method, by the method's access option: nil or
// PERMISSION_DENIED. Reflection is for viewers.
func Authorize(method string, p access.Principal) error {
	need := optionsv1.Access_ACCESS_VIEWER
	if !strings.HasPrefix(method, "/grpc.reflection.") {
		need = accessOf(method)
	}
	allowed := p.Method == "service"
	switch need {
	case optionsv1.Access_ACCESS_ADMIN:
		allowed = allowed || p.Role == registryv1.Role_ROLE_ADMIN
	case optionsv1.Access_ACCESS_VIEWER:
		allowed = allowed || p.Role == registryv1.Role_ROLE_ADMIN || p.Role == registryv1.Role_ROLE_VIEWER
	}
	if !allowed {
		return status.Errorf(codes.PermissionDenied, "%v; it needs %s", access.ErrForbidden, strings.ToLower(strings.TrimPrefix(need.String(), "ACCESS_")))
	}
	return nil
}

// accesses caches the methods' options.
var accesses sync.Map // full method -> optionsv1.Access

// accessOf reads a method's access option. A method without one is for services only.
func accessOf(method string) optionsv1.Access {
	if a, ok := accesses.Load(method); ok {
		return a.(optionsv1.Access)
	}
	a := optionsv1.Access_ACCESS_SERVICE
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return a // not kept: names come from callers
	}
	if declared, ok := proto.GetExtension(d.Options(), optionsv1.E_Access).(optionsv1.Access); ok && declared != optionsv1.Access_ACCESS_UNSPECIFIED {
		a = declared
	}
	accesses.Store(method, a)
	return a
}

// validate holds a request against its proto's rules: INVALID_ARGUMENT with each field's violation.
func (c *checks) validate(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	err := c.validator.Validate(m)
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		if err != nil {
			return fmt.Errorf("validating a request: %w", err)
		}
		return nil
	}
	bad := &errdetails.BadRequest{}
	var texts []string
	for _, v := range invalid.Violations {
		field := protovalidate.FieldPathString(v.Proto.GetField())
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: field, Description: v.Proto.GetMessage()})
		texts = append(texts, field+": "+v.Proto.GetMessage())
	}
	st := status.New(codes.InvalidArgument, strings.Join(texts, "; "))
	if detailed, err := st.WithDetails(bad); err == nil {
		st = detailed
	}
	return st.Err()
}

// status makes a gRPC status of what a service returned. An error that is none and wraps none is a fault of
// ours: the caller gets a reference, the log the text.
func (c *checks) status(method string, err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call was not done in time")
	}
	reference := uuid.NewString()
	c.log.Error("a call failed", "method", method, "reference", reference, "error", err)
	return status.Errorf(codes.Internal, "internal error; the log has more under reference %s", reference)
}

func (c *checks) recovered(method string, err *error) {
	if r := recover(); r != nil {
		reference := uuid.NewString()
		c.log.Error("a call panicked", "method", method, "reference", reference, "panic", r, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "internal error; the log has more under reference %s", reference)
	}
}

// byMetadata authenticates calls from the network: services by their credential, everyone else by a bearer token.
func byMetadata(services ServiceCredentials, others access.Authenticator) func(context.Context) (access.Principal, error) {
	return func(ctx context.Context) (access.Principal, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if credential := first(md, credentialKey); credential != "" {
			if services == nil {
				return access.Principal{}, access.ErrUnauthenticated
			}
			node, err := services.Check(credential, time.Now())
			if err != nil {
				return access.Principal{}, access.ErrUnauthenticated
			}
			return access.Principal{ID: node, Method: "service"}, nil
		}
		token, _ := access.Bearer(map[string][]string{"Authorization": md.Get("authorization")})
		if others == nil {
			return access.Principal{}, access.ErrUnauthenticated
		}
		return others.Authenticate(ctx, token)
	}
}

func first(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}
