package rpc

import (
	"context"
	"log/slog"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"

	"erlmcp.dev/shared/access"
)

// Local is the channel to services of the same process: register them, and call them over it. Calls pass the
// same checks as those from the network, only that the caller is a service without having to prove it.
type Local struct{ channel inprocgrpc.Channel }

var (
	_ grpc.ServiceRegistrar    = (*Local)(nil)
	_ grpc.ClientConnInterface = (*Local)(nil)
)

// NewLocal makes a Local for a node.
func NewLocal(node string, log *slog.Logger) (*Local, error) {
	service := access.Principal{ID: node, Method: "service"}
	checks, err := newChecks(func(context.Context) (access.Principal, error) { return service, nil }, log)
	if err != nil {
		return nil, err
	}
	l := &Local{}
	l.channel.WithServerUnaryInterceptor(checks.unary).WithServerStreamInterceptor(checks.stream)
	return l, nil
}

// RegisterService implements grpc.ServiceRegistrar.
func (l *Local) RegisterService(description *grpc.ServiceDesc, implementation any) {
	l.channel.RegisterService(description, implementation)
}

// Invoke implements grpc.ClientConnInterface.
func (l *Local) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	return l.channel.Invoke(ctx, method, req, response, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (l *Local) NewStream(ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	return l.channel.NewStream(ctx, description, method, options...)
}
