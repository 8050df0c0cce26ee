package dial_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/dial"
	"erlmcp.dev/shared/upstream/mcphttp"
)

func dialer(t *testing.T, log io.Writer) *dial.Dialer {
	transport := mcphttp.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	return &dial.Dialer{Transport: transport, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))}
}

// grpcServer is a gRPC service with a method that can't be a tool: reflection's own streams both ways.
func grpcServer(t *testing.T) *registryv1.Server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return &registryv1.Server{Name: "health", Endpoint: &registryv1.Server_Grpc{Grpc: &registryv1.GrpcEndpoint{
		Target: listener.Addr().String(), Services: []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"},
	}}}
}

func TestWhatIsLeftOutIsSaidOnceHoweverOftenAServerIsDescribed(t *testing.T) {
	var log bytes.Buffer
	d := dialer(t, &log)
	s := grpcServer(t)
	for range 3 {
		offer, err := d.Describe(t.Context(), s)
		if err != nil || len(offer.GetTools()) == 0 {
			t.Fatalf("%v, %v", offer, err)
		}
	}
	if n := strings.Count(log.String(), "left out"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// site is an MCP server over HTTP of the official SDK, one of whose tools has a name that can't be shown.
func site(t *testing.T, stateless bool) *registryv1.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{Logger: slog.New(slog.DiscardHandler)})
	for _, name := range []string{"ok", "not ok"} {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
	}
	s := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: stateless}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return &registryv1.Server{Name: "site", Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: s.URL}}}
}

func TestAnMCPServerIsDescribedAndShared(t *testing.T) {
	var log bytes.Buffer
	d := dialer(t, &log)
	s := site(t, true)
	var offer *registryv1.Offer
	for range 3 {
		var err error
		if offer, err = d.Describe(t.Context(), s); err != nil || len(offer.GetTools()) != 1 {
			t.Fatalf("%v, %v", offer, err)
		}
	}
	if n := strings.Count(log.String(), "left out"); n != 1 || !strings.Contains(log.String(), "site") {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	for _, eras := range [][]registryv1.Era{{registryv1.Era_ERA_MODERN}, {registryv1.Era_ERA_LEGACY}} {
		peer, err := d.Shared(t.Context(), &registryv1.CatalogServer{Server: s, Offer: &registryv1.Offer{Eras: eras, LegacyVersion: offer.GetLegacyVersion()}})
		if err != nil {
			t.Fatal(err)
		}
		params := `{"name":"ok","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}`
		if eras[0] == registryv1.Era_ERA_LEGACY {
			params = `{"name":"ok","arguments":{}}`
		}
		if reply, err := peer.Call(t.Context(), upstream.Request{Method: "tools/call", Params: []byte(params)}, nil); err != nil || reply.Error != nil {
			t.Errorf("%v: %s, %v", eras, reply.Error, err)
		}
		_ = peer.Close()
	}
}

func TestAProgramIsNotReachedOverTheNetwork(t *testing.T) {
	d := dialer(t, io.Discard)
	program := &registryv1.Server{Name: "p", Endpoint: &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: []string{"p"}}}}
	_, err := d.Describe(t.Context(), program)
	_, shared := d.Shared(t.Context(), &registryv1.CatalogServer{Server: program})
	if !errors.Is(err, upstream.ErrNotSent) || !errors.Is(shared, upstream.ErrNotSent) {
		t.Error(err, shared)
	}
	if err := d.Watch(t.Context(), program, &registryv1.Offer{}, func() {}); !errors.Is(err, describe.ErrNoStream) {
		t.Error(err)
	}
}
