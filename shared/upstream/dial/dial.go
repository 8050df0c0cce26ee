// Package dial opens the right kind of conversation with a server of the catalogue. It must not know whose it
// is. Start at [Dialer].
package dial

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/grpcreflect"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// Dialer opens conversations. It is safe for concurrent use.
type Dialer struct {
	// Transport carries HTTP to all servers; one from mcphttp.NewTransport is meant.
	Transport http.RoundTripper
	// Info is the Implementation object that servers are told where a client has none; may be nil.
	Info json.RawMessage
	// Log hears of servers. What a server offers and can't be shown is said once, however often it is
	// described. Optional.
	Log *slog.Logger

	once sync.Once
	told *slog.Logger // Log, without what it was told before
}

// log is the log of who describes servers.
func (d *Dialer) log() *slog.Logger {
	d.once.Do(func() {
		d.told = slog.New(slog.DiscardHandler)
		if d.Log != nil {
			d.told = slog.New(newFirst(d.Log.Handler()))
		}
	})
	return d.told
}

// Client is who asks a server what it offers.
func (d *Dialer) Client(s *registryv1.Server) describe.Client {
	return describe.Client{Info: d.Info, Log: d.log().With("server", s.GetName())}
}

// HTTP is how an MCP server over HTTP is reached.
func (d *Dialer) HTTP(e *registryv1.HttpEndpoint) mcphttp.Config {
	return mcphttp.Config{URL: e.GetUrl(), Headers: e.GetHeaders(), Transport: d.Transport}
}

// Shared opens a conversation that remembers nobody, to be shared by all: with a gRPC service, a modern server,
// or a legacy one that keeps no session.
func (d *Dialer) Shared(ctx context.Context, s *registryv1.CatalogServer) (upstream.Peer, error) {
	switch e := s.GetServer().GetEndpoint().(type) {
	case *registryv1.Server_Grpc:
		return d.GRPC(ctx, s.GetServer())
	case *registryv1.Server_Http:
		if slices.Contains(s.GetOffer().GetEras(), registryv1.Era_ERA_MODERN) {
			return mcphttp.NewModern(d.HTTP(e.Http))
		}
		return mcphttp.Initialize(ctx, mcphttp.LegacyConfig{Config: d.HTTP(e.Http), Version: s.GetOffer().GetLegacyVersion(), Info: d.Info, NoStream: true})
	}
	return nil, fmt.Errorf("%w: it can't be shared", upstream.ErrNotSent)
}

// GRPC opens a conversation with a gRPC service.
func (d *Dialer) GRPC(ctx context.Context, s *registryv1.Server) (*grpcreflect.Peer, error) {
	return openGRPC(ctx, s, d.Log)
}

func openGRPC(ctx context.Context, s *registryv1.Server, log *slog.Logger) (*grpcreflect.Peer, error) {
	e := s.GetGrpc()
	config := grpcreflect.Config{Target: e.GetTarget(), Services: e.GetServices(), Metadata: e.GetMetadata(), Log: log}
	if e.GetTls() {
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if s.GetCallTimeout() != nil {
		config.CallTimeout = s.GetCallTimeout().AsDuration()
	}
	return grpcreflect.Open(ctx, config)
}

// Describe asks a server that is reached over the network what it offers.
func (d *Dialer) Describe(ctx context.Context, s *registryv1.Server) (*registryv1.Offer, error) {
	switch e := s.GetEndpoint().(type) {
	case *registryv1.Server_Grpc:
		peer, err := openGRPC(ctx, s, d.log())
		if err != nil {
			return nil, err
		}
		defer func() { _ = peer.Close() }()
		return peer.Describe(ctx)
	case *registryv1.Server_Http:
		return describe.HTTP(ctx, d.HTTP(e.Http), d.Client(s))
	}
	return nil, fmt.Errorf("%w: it is no network server", upstream.ErrNotSent)
}

// Watch stays subscribed to a server's list changes; describe.ErrNoStream where it tells of none.
func (d *Dialer) Watch(ctx context.Context, s *registryv1.Server, offer *registryv1.Offer, changed func()) error {
	if e := s.GetHttp(); e != nil {
		return describe.WatchHTTP(ctx, d.HTTP(e), offer, d.Client(s), changed)
	}
	return describe.ErrNoStream
}
