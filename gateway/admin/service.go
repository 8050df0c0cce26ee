// Package admin is how operators look into a gateway: GatewayService over gRPC, and every service's
// administrative methods as REST. It must not know transports. Start at [Service] and [REST].
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/gateway/engine"
	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Service implements GatewayService.
type Service struct {
	gatewayv1.UnimplementedGatewayServiceServer
	config Config
}

// Config is what a Service needs.
type Config struct {
	Node    string
	Version string
	Started time.Time
	Engine  *engine.Engine
	Catalog interface{ Current() *catalog.Catalog }
	// Connections counts open client connections by transport.
	Connections func() map[string]int
	Draining    func() bool
	LogLevel    *slog.LevelVar
}

// NewService makes a Service.
func NewService(config Config) *Service { return &Service{config: config} }

// Register adds the service to a server.
func (s *Service) Register(to grpc.ServiceRegistrar) { gatewayv1.RegisterGatewayServiceServer(to, s) }

// GetStatus implements gatewayv1.GatewayServiceServer.
func (s *Service) GetStatus(context.Context, *gatewayv1.GetStatusRequest) (*gatewayv1.GetStatusResponse, error) {
	c := s.config.Catalog.Current()
	response := &gatewayv1.GetStatusResponse{
		Node:           s.config.Node,
		Version:        s.config.Version,
		StartedAt:      timestamppb.New(s.config.Started),
		CatalogVersion: c.Version(),
		Servers:        uint32(len(c.Servers())),
		Draining:       s.config.Draining(),
		Connections:    map[string]uint32{},
	}
	if all, ok := c.View(""); ok {
		response.Tools = uint32(all.Len(catalog.Tools))
	}
	for transport, n := range s.config.Connections() {
		response.Connections[transport] = uint32(n)
	}
	return response, nil
}

// ListTools implements gatewayv1.GatewayServiceServer.
func (s *Service) ListTools(_ context.Context, req *gatewayv1.ListToolsRequest) (*gatewayv1.ListToolsResponse, error) {
	view, ok := s.config.Catalog.Current().View(req.GetView())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no view or server is named %q", req.GetView())
	}
	response := &gatewayv1.ListToolsResponse{}
	for _, e := range view.Entries(catalog.Tools) {
		tool := &structpb.Struct{}
		if err := protojson.Unmarshal(e.JSON, tool); err != nil {
			return nil, status.Errorf(codes.Internal, "tool %q is no JSON object", e.Public)
		}
		response.Tools = append(response.Tools, tool)
	}
	return response, nil
}

// CallTool implements gatewayv1.GatewayServiceServer.
func (s *Service) CallTool(ctx context.Context, req *gatewayv1.CallToolRequest) (*gatewayv1.CallToolResponse, error) {
	view, ok := s.config.Catalog.Current().View(req.GetView())
	switch {
	case !ok:
		return nil, status.Errorf(codes.NotFound, "no view or server is named %q", req.GetView())
	case view.Find(catalog.Tools, req.GetName()) == nil:
		return nil, status.Errorf(codes.NotFound, "Unknown tool: %s", req.GetName())
	}
	arguments := []byte("{}")
	if req.GetArguments() != nil {
		var err error
		if arguments, err = protojson.Marshal(req.GetArguments()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "arguments: %v", err)
		}
	}
	var meta, params jsonrpc.Object
	meta.Set(mcp.MetaVersion, jsonrpc.String(mcp.ModernVersions[0]))
	meta.Set(mcp.MetaCapabilities, json.RawMessage("{}"))
	params.Set("name", jsonrpc.String(req.GetName()))
	params.Set("arguments", arguments)
	params.Set("_meta", meta.JSON())
	m := jsonrpc.Message{ID: json.RawMessage("1"), Method: mcp.MethodToolsCall, Params: params.JSON()}
	principal, _ := access.FromContext(ctx)
	reply := s.config.Engine.Modern(ctx, engine.Client{Principal: principal, View: req.GetView(), Transport: "admin"}, &m, discard{})
	answer, err := jsonrpc.Parse(reply.Message())
	if err != nil {
		return nil, status.Error(codes.Canceled, "the call was cancelled")
	}
	if answer.Error != nil {
		return nil, callStatus(jsonrpc.ParseError(answer.Error))
	}
	result := &structpb.Struct{}
	if err := protojson.Unmarshal(answer.Result, result); err != nil {
		return nil, status.Error(codes.Internal, "the server's result is no JSON object")
	}
	return &gatewayv1.CallToolResponse{Result: result}, nil
}

func callStatus(e *jsonrpc.Error) error {
	switch e.Code {
	case jsonrpc.CodeInvalidParams:
		return status.Error(codes.InvalidArgument, e.Message)
	case engine.CodeTooMany:
		return status.Error(codes.ResourceExhausted, e.Message)
	case mcp.CodeMissingCapability:
		return status.Error(codes.FailedPrecondition, e.Message)
	}
	return status.Error(codes.Unavailable, e.Message)
}

// discard is a Stream of which only the answer counts.
type discard struct{}

// Send implements engine.Stream.
func (discard) Send(string, []byte) error { return nil }

// SetLogLevel implements gatewayv1.GatewayServiceServer.
func (s *Service) SetLogLevel(_ context.Context, req *gatewayv1.SetLogLevelRequest) (*gatewayv1.SetLogLevelResponse, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(req.GetLevel())); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "level: %v", err)
	}
	s.config.LogLevel.Set(level)
	return &gatewayv1.SetLogLevelResponse{}, nil
}
