package admin

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"erlmcp.dev/gateway/transport/guard"
	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/proto/openapi"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/rpc"
)

// Services are the connections to the services that REST leads to.
type Services struct {
	Gateway, Session, Registry, Metrics grpc.ClientConnInterface
}

// REST serves the administrative methods of all services under /api/v1, and their OpenAPI document at
// /api/v1/openapi.json. Who may call what is the methods' own access option.
func REST(services Services, g *guard.Guard) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{ // files go as they are
			MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}}),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	ctx := context.Background()
	register := []func() error{
		func() error {
			return registryv1.RegisterRegistryServiceHandlerClient(ctx, mux, registryv1.NewRegistryServiceClient(asPrincipal{services.Registry}))
		},
		func() error {
			return registryv1.RegisterAccessServiceHandlerClient(ctx, mux, registryv1.NewAccessServiceClient(asPrincipal{services.Registry}))
		},
		func() error {
			return sessionv1.RegisterSessionServiceHandlerClient(ctx, mux, sessionv1.NewSessionServiceClient(asPrincipal{services.Session}))
		},
		func() error {
			return metricsv1.RegisterMetricsServiceHandlerClient(ctx, mux, metricsv1.NewMetricsServiceClient(asPrincipal{services.Metrics}))
		},
		func() error {
			return gatewayv1.RegisterGatewayServiceHandlerClient(ctx, mux, gatewayv1.NewGatewayServiceClient(asPrincipal{services.Gateway}))
		},
	}
	for _, r := range register {
		if err := r(); err != nil {
			return nil, err
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := g.Admit(w, r)
		if !ok {
			return
		}
		if r.URL.Path == "/api/v1/openapi.json" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(openapi.Document)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		mux.ServeHTTP(w, r.WithContext(access.NewContext(r.Context(), principal)))
	}), nil
}

// asPrincipal calls a service on behalf of the request's principal; the service asks whether that one may.
type asPrincipal struct{ to grpc.ClientConnInterface }

// Invoke implements grpc.ClientConnInterface.
func (c asPrincipal) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	principal, _ := access.FromContext(ctx)
	return c.to.Invoke(rpc.OnBehalf(ctx, principal), method, req, response, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (c asPrincipal) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	principal, _ := access.FromContext(ctx)
	return c.to.NewStream(rpc.OnBehalf(ctx, principal), d, method, options...)
}
