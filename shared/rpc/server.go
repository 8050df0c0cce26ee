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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/trace"
)

// MaxMessage is the longest message between services, in bytes.
const MaxMessage = 64 << 20

// Server is a gRPC server with reflection and grpc.health.v1. Before a service sees a call, the caller is
// authenticated and authorised, the call has a deadline, and its request is valid; afterwards errors become
// statuses, and administrative acts are audited. Callers without a credential may ask for health, for some seconds.
type Server struct {
	*grpc.Server
	// Health is what grpc.health.v1 answers, unless another implementation of it is registered: SERVING until
	// the server stops.
	Health *health.Server
	checks *checks
	drain  time.Duration
}

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Authenticator checks those who are no service.
	Authenticator access.Authenticator
	// Services checks services' credentials; nil: none are accepted.
	Services ServiceCredentials
	// TLS, or nil for plain text.
	TLS *tls.Config
	// Node is this process's name, for Audit.
	Node string
	// Audit hears of each call of an admin's method that a known caller made, done or refused. It must not
	// block. nil: nobody does.
	Audit func(ctx context.Context, event *metricsv1.AuditEvent)
	// Drain is how long calls may go on once Serve's ctx ended; 10 s when 0.
	Drain time.Duration
	// Measure hears how each call of a registered method ended. Optional; must not block.
	Measure func(method string, code codes.Code, d time.Duration)
	// Tracer traces calls that belong to a trace; nil traces none.
	Tracer *trace.Tracer
	Log    *slog.Logger
}

// NewServer makes a Server.
func NewServer(config ServerConfig) (*Server, error) {
	checks, err := newChecks(config.Node, byMetadata(config.Services, config.Authenticator), config.Audit, config.Log)
	if err != nil {
		return nil, err
	}
	checks.tracer, checks.measure = config.Tracer, config.Measure
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		refuseCompressed(),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(100_000),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.InTapHandle(checks.tap),
		grpc.UnaryInterceptor(checks.unary),
		grpc.StreamInterceptor(checks.stream),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS)))
	}
	if config.Drain == 0 {
		config.Drain = 10 * time.Second
	}
	s := &Server{Server: grpc.NewServer(options...), Health: health.NewServer(), checks: checks, drain: config.Drain}
	reflection.Register(s)
	return s, nil
}

// RegisterService implements grpc.ServiceRegistrar. It panics for a method that does not say who may call it, so
// that such a service never starts.
func (s *Server) RegisterService(description *grpc.ServiceDesc, implementation any) {
	s.checks.permit(description)
	s.Server.RegisterService(description, implementation)
}

// Serve serves until ctx ends; then it takes no more calls, lets those that run end for the drain time, and
// returns. Streams that never end by themselves are their service's to end, or they take all of that time.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if _, ok := s.GetServiceInfo()[healthv1.Health_ServiceDesc.ServiceName]; !ok {
		healthv1.RegisterHealthServer(s, s.Health)
	}
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
