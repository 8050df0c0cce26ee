package orderdesk

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
)

// NewServer returns a gRPC server with a new desk, health and server reflection, ready for Serve.
func NewServer(options ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(options...)
	Register(server, New())
	return server
}

// Register adds the desk, health and server reflection to a server. It comes after all other services.
func Register(server *grpc.Server, desk *Desk) {
	orderdeskv1.RegisterOrderDeskServiceServer(server, desk)
	healthv1.RegisterHealthServer(server, health.NewServer())
	registerReflection(server)
}
