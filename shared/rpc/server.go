package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"erlmcp.dev/shared/access"
)

// MaxMessage is the longest message between services, in bytes.
const MaxMessage = 64 << 20

// Server is a gRPC server with reflection and grpc.health.v1.
type Server struct {
	*grpc.Server
	// Health is what grpc.health.v1 answers.
	Health *health.Server
	drain  time.Duration
}

// ServiceCredentials makes and checks credentials between services; seal.Keys does.
type ServiceCredentials interface {
	Credential(node string, now time.Time) string
	Check(credential string, now time.Time) (node string, err error)
}

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Authenticator checks those who are no service.
	Authenticator access.Authenticator
	// Services checks services' credentials; nil: none are accepted.
	Services ServiceCredentials
	// TLS, or nil for plain text.
	TLS *tls.Config
	// Drain is how long calls may go on once Serve's ctx ended; 10 s when 0.
	Drain time.Duration
	Log   *slog.Logger
}

// NewServer makes a Server.
func NewServer(config ServerConfig) (*Server, error) {
	checks, err := newChecks(byMetadata(config.Services, config.Authenticator), config.Log)
	if err != nil {
		return nil, err
	}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(100_000),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.UnaryInterceptor(checks.unary),
		grpc.StreamInterceptor(checks.stream),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS)))
	}
	if config.Drain == 0 {
		config.Drain = 10 * time.Second
	}
	s := &Server{Server: grpc.NewServer(options...), Health: health.NewServer(), drain: config.Drain}
	healthv1.RegisterHealthServer(s.Server, s.Health)
	reflection.Register(s.Server)
	return s, nil
}

// Serve serves until ctx ends; then it lets calls end for the drain time, and returns.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving gRPC on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.Health.Shutdown()
	hard := time.AfterFunc(s.drain, s.Stop)
	defer hard.Stop()
	s.GracefulStop()
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving gRPC on %s: %w", listener.Addr(), err)
	}
	return nil
}
