package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
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
func Dial(target string, config ClientConfig) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		// The longest back-off must be shorter than the time after which a silent node counts as gone.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
	}
	transport := insecure.NewCredentials()
	if config.TLS != nil {
		transport = credentials.NewTLS(config.TLS)
	}
	options = append(options, grpc.WithTransportCredentials(transport))
	if config.Node != "" && config.Services != nil {
		options = append(options, grpc.WithPerRPCCredentials(&nodeCredential{node: config.Node, services: config.Services}))
	}
	if !strings.Contains(target, "://") {
		addresses := manual.NewBuilderWithScheme("erlmcp-static")
		var state resolver.State
		for address := range strings.SplitSeq(target, ",") {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: strings.TrimSpace(address)})
		}
		if len(state.Addresses) == 1 {
			target = "passthrough:///" + state.Addresses[0].Addr
		} else {
			addresses.InitialState(state)
			options = append(options, grpc.WithResolvers(addresses))
			target = addresses.Scheme() + ":///services"
		}
	}
	conn, err := grpc.NewClient(target, options...)
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
