package rpc

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/access"
)

// status makes a gRPC status of what a service returned. An error that is none and wraps none is a fault of
// ours: the caller gets a reference, the log the text.
func (c *checks) status(ctx context.Context, method string, err error) error {
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
	case errors.Is(err, access.ErrUnauthenticated):
		return status.Error(codes.Unauthenticated, access.ErrUnauthenticated.Error())
	case errors.Is(err, access.ErrForbidden):
		return status.Error(codes.PermissionDenied, access.ErrForbidden.Error())
	case errors.Is(err, access.ErrUnavailable):
		return status.Error(codes.Unavailable, access.ErrUnavailable.Error())
	}
	reference := uuid.NewString()
	c.log.ErrorContext(ctx, "a call failed", "method", method, "reference", reference, "error", err)
	return internal(reference)
}

// recovered turns a handler's panic into its call's error. Deferred, so it gets the context as it is then: with the
// trace.
func (c *checks) recovered(ctx *context.Context, method string, err *error) {
	if r := recover(); r != nil {
		reference := uuid.NewString()
		c.log.ErrorContext(*ctx, "a call panicked", "method", method, "reference", reference, "panic", r, "stack", string(debug.Stack()))
		*err = internal(reference)
	}
}

func internal(reference string) error {
	return status.Errorf(codes.Internal, "internal error; the log has more under reference %s", reference)
}
