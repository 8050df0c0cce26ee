package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"erlmcp.dev/examples/orderdesk"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry"
)

// demo runs the order desk, a gRPC service, on a free port of loopback, and declares it as a server: something to
// try things with.
func (p *process) demo() (*registryv1.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening a port for the demo server: %w", err)
	}
	server := orderdesk.NewServer()
	p.add("demo server", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		return server.Serve(l)
	})
	return &registryv1.Server{Name: "orders", Endpoint: &registryv1.Server_Grpc{Grpc: &registryv1.GrpcEndpoint{Target: l.Addr().String()}}}, nil
}

// adminKeyName is the file, in the data directory, that keeps the first API key.
const adminKeyName = "admin-key"

// firstAdmin makes the first API key where there is none, keeps it in the data directory for this machine's
// administrator, and has it shown once.
func (p *process) firstAdmin(ctx context.Context, service *registry.Service) error {
	secret, created, err := service.EnsureAdminKey(ctx)
	if err != nil || !created {
		return err
	}
	path := filepath.Join(p.cfg.DataDir, adminKeyName)
	if err := os.MkdirAll(p.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("keeping the first API key: %w", err)
	}
	p.firstKey = secret
	return nil
}
