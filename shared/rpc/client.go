package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the client's side of health checks
	"google.golang.org/grpc/keepalive"

	"erlmcp.dev/shared/trace"
)

// ClientConfig is what a client needs.
type ClientConfig struct {
	// Node is who calls, and Services makes its credential; without both none is sent.
	Node     string
	Services ServiceCredentials
	// TLS, or nil for plain text.
	TLS *tls.Config
}

// Dial makes a client of the services at a target: host:port, several of them separated by commas, or a target
// of gRPC's own such as dns:///name:port. Calls go to all addresses in turn. It connects when first used, and
// never repeats a call that may have been carried out.
//
// A host:port stands for one service, and its name is looked up anew with each connection; dns:/// stands for all
// addresses of a name, which are looked up again about every 10 s and when a connection to one of them is lost. Addresses whose
// services say by grpc.health.v1 that they don't serve, as when they drain, get no calls.
func Dial(target string, config ClientConfig) (*grpc.ClientConn, error) {
	return dial(target, config,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`),
		grpc.WithIdleTimeout(0), // the first call after a pause is not to wait for connections
	)
}

func dial(target string, config ClientConfig, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	options := append([]grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		// The longest back-off must be shorter than the time after which a silent node counts as gone.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithDisableServiceConfig(), // whoever rules the DNS does not rule this
		grpc.WithDisableRetry(),         // but for calls that were never begun
		grpc.WithNoProxy(),              // proxies lead out of the cluster
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return invoke(trace.Outgoing(ctx), method, req, reply, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(trace.Outgoing(ctx), d, conn, method, options...)
		}),
	}, more...)
	transport := insecure.NewCredentials()
	if config.TLS != nil {
		transport = credentials.NewTLS(config.TLS)
	}
	options = append(options, grpc.WithTransportCredentials(transport))
	if config.Node != "" && config.Services != nil {
		options = append(options, grpc.WithPerRPCCredentials(&nodeCredential{node: config.Node, services: config.Services}))
	}
	resolved, resolving, err := parseTarget(target)
	if err != nil {
		return nil, fmt.Errorf("making a client of services: %w", err)
	}
	conn, err := grpc.NewClient(resolved, append(options, resolving...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", target, err)
	}
	return conn, nil
}

// nodeCredential sends a service credential with each call.
type nodeCredential struct {
	node     string
	services ServiceCredentials

	mu      sync.Mutex
	current map[string]string
	until   time.Time
}

// credentialReuse is how long one credential is sent; it is good for longer.
const credentialReuse = 20 * time.Second

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (c *nodeCredential) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(c.until) {
		c.current = map[string]string{credentialKey: c.services.Credential(c.node, now)}
		c.until = now.Add(credentialReuse)
	}
	return c.current, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Plain text is refused in production by the
// configuration, and a credential is good for a minute.
func (c *nodeCredential) RequireTransportSecurity() bool { return false }
