package rpc_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/otlp"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/telemetry"
	"erlmcp.dev/shared/trace"
)

// administered is a service of acts that an admin does.
type administered struct {
	registryv1.UnimplementedRegistryServiceServer
	registryv1.UnimplementedAccessServiceServer
	sessionv1.UnimplementedSessionServiceServer
	err error // what ListKeys returns
}

func (a *administered) register(to grpc.ServiceRegistrar) {
	registryv1.RegisterRegistryServiceServer(to, a)
	registryv1.RegisterAccessServiceServer(to, a)
	sessionv1.RegisterSessionServiceServer(to, a)
}

func (*administered) DeleteServer(context.Context, *registryv1.DeleteServerRequest) (*registryv1.DeleteServerResponse, error) {
	return &registryv1.DeleteServerResponse{}, nil
}

func (*administered) CreateKey(context.Context, *registryv1.CreateKeyRequest) (*registryv1.CreateKeyResponse, error) {
	panic("a bug")
}

func (*administered) CloseSession(context.Context, *sessionv1.CloseSessionRequest) (*sessionv1.CloseSessionResponse, error) {
	return nil, status.Error(codes.NotFound, "no such session")
}

func (a *administered) ListKeys(context.Context, *registryv1.ListKeysRequest) (*registryv1.ListKeysResponse, error) {
	return nil, a.err
}

func TestAdministrativeActsAreAudited(t *testing.T) {
	k := newKeys(t)
	var keys access.KeySet
	record, secret, err := access.NewKey("eve", registryv1.Role_ROLE_VIEWER, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	keys.Apply(true, []*registryv1.KeyRecord{record}, nil)
	events := make(chan *metricsv1.AuditEvent, 100)
	audit := func(_ context.Context, e *metricsv1.AuditEvent) { events <- e }
	local := newLocal(t, rpc.LocalConfig{Node: "a@b", Audit: audit})
	(&administered{}).register(local)
	address := serveWith(t, rpc.ServerConfig{Services: k, Node: "a@b", Authenticator: access.Chain{Keys: &keys}, Audit: audit}, (&administered{}).register)
	alice := access.Principal{ID: "alice", Role: registryv1.Role_ROLE_ADMIN, Method: access.MethodKey}
	as := rpc.OnBehalf(t.Context(), alice)
	eve := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)

	for name, c := range map[string]struct {
		conn grpc.ClientConnInterface
		ctx  context.Context
		want []string
	}{
		"service, network": {dial(t, address, rpc.ClientConfig{Node: "n@h", Services: k}), as, []string{
			"alice erlmcp.registry.v1.RegistryService/DeleteServer weather OK",
			"alice erlmcp.registry.v1.AccessService/CreateKey bob INTERNAL",
			"alice erlmcp.session.v1.SessionService/CloseSession " + someSession + " NOT_FOUND",
			"alice erlmcp.registry.v1.RegistryService/RegisterServer INVALID_ARGUMENT",
		}},
		"service, local": {local, as, []string{
			"alice erlmcp.registry.v1.RegistryService/DeleteServer weather OK",
			"alice erlmcp.registry.v1.AccessService/CreateKey bob INTERNAL",
			"alice erlmcp.session.v1.SessionService/CloseSession " + someSession + " NOT_FOUND",
			"alice erlmcp.registry.v1.RegistryService/RegisterServer INVALID_ARGUMENT",
		}},
		"refused": {dial(t, address, rpc.ClientConfig{}), eve, []string{
			"eve erlmcp.registry.v1.RegistryService/DeleteServer weather PERMISSION_DENIED",
			"eve erlmcp.registry.v1.AccessService/CreateKey bob PERMISSION_DENIED",
			"eve erlmcp.session.v1.SessionService/CloseSession " + someSession + " PERMISSION_DENIED",
			"eve erlmcp.registry.v1.RegistryService/RegisterServer PERMISSION_DENIED",
		}},
		"unknown": {dial(t, address, rpc.ClientConfig{}), t.Context(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			registry, keys, session := registryv1.NewRegistryServiceClient(c.conn), registryv1.NewAccessServiceClient(c.conn), sessionv1.NewSessionServiceClient(c.conn)
			_, _ = registry.ListServers(c.ctx, &registryv1.ListServersRequest{}) // a viewer's: no act
			_, _ = registry.DeleteServer(c.ctx, &registryv1.DeleteServerRequest{Name: "weather"})
			_, _ = keys.CreateKey(c.ctx, &registryv1.CreateKeyRequest{Principal: "bob"})
			_, _ = session.CloseSession(c.ctx, &sessionv1.CloseSessionRequest{SessionId: someSession})
			_, _ = registry.RegisterServer(c.ctx, &registryv1.RegisterServerRequest{})
			for _, want := range c.want {
				e := <-events
				got := strings.Join(strings.Fields(fmt.Sprint(e.GetPrincipal(), " ", e.GetMethod(), " ", e.GetObject(), " ", e.GetOutcome())), " ")
				if got != want || e.GetNode() != "a@b" || len(e.GetId()) != 36 || time.Since(e.GetAt().AsTime()) > time.Minute {
					t.Errorf("got %s (%v), want %s", got, e, want)
				}
			}
			if len(events) > 0 {
				t.Errorf("one more: %v", <-events)
			}
		})
	}
}

func TestErrorsOfServicesBecomeStatuses(t *testing.T) {
	var logged strings.Builder
	k := newKeys(t)
	service := &administered{}
	log := slog.New(slog.NewTextHandler(&logged, nil))
	local := newLocal(t, rpc.LocalConfig{Node: "n@h", Log: log})
	service.register(local)
	address := serveWith(t, rpc.ServerConfig{Services: k, Log: log}, service.register)
	detailed, err := status.New(codes.Aborted, "moved").WithDetails(&errdetails.ErrorInfo{Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for name, conn := range map[string]grpc.ClientConnInterface{
		"network": dial(t, address, rpc.ClientConfig{Node: "n@h", Services: k}), "local": local,
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				err  error
				want codes.Code
			}{
				{fmt.Errorf("doing: %w", status.Error(codes.NotFound, "no")), codes.NotFound},
				{fmt.Errorf("doing: %w", detailed.Err()), codes.Aborted},
				{fmt.Errorf("doing: %w", context.Canceled), codes.Canceled},
				{fmt.Errorf("doing: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
				{fmt.Errorf("doing: %w", access.ErrForbidden), codes.PermissionDenied},
				{fmt.Errorf("doing: %w", access.ErrUnauthenticated), codes.Unauthenticated},
				{fmt.Errorf("doing: %w", access.ErrUnavailable), codes.Unavailable},
				{net.UnknownNetworkError("inner workings"), codes.Internal},
			} {
				service.err = c.err
				_, err := registryv1.NewAccessServiceClient(conn).ListKeys(t.Context(), &registryv1.ListKeysRequest{})
				expect(t, c.err.Error(), err, c.want)
				if c.want == codes.Aborted && len(details[*errdetails.ErrorInfo](err)) != 1 {
					t.Errorf("%v lost its details", err)
				}
				if c.want == codes.Internal {
					_, reference, _ := strings.Cut(status.Convert(err).Message(), "reference ")
					if strings.Contains(err.Error(), "inner") || reference == "" || !strings.Contains(logged.String(), reference) {
						t.Errorf("the caller got %v, the log %s", err, &logged)
					}
				}
			}
		})
	}
}

// What is logged of a call that failed by a fault of ours, or panicked, names the call's trace.
func TestTheLogOfAFaultNamesItsTrace(t *testing.T) {
	tracer, err := trace.New(t.Context(), trace.Config{Collector: otlp.Collector{Endpoint: "http://127.0.0.1:1"}}) // nothing is kept, so nothing sent
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	var logged strings.Builder
	k, log := newKeys(t), telemetry.NewLog(telemetry.LogConfig{Output: &logged})
	local := newLocal(t, rpc.LocalConfig{Node: "n@h", Log: log, Tracer: tracer})
	register(local)
	conns := map[string]grpc.ClientConnInterface{
		"network": dial(t, serve(t, rpc.ServerConfig{Services: k, Log: log, Tracer: tracer}), rpc.ClientConfig{Node: "n@h", Services: k}), "local": local,
	}
	for name, conn := range conns {
		gateway := gatewayv1.NewGatewayServiceClient(conn)
		for message, call := range map[string]func(context.Context) error{
			"a call failed": func(ctx context.Context) error {
				_, err := gateway.SetLogLevel(ctx, &gatewayv1.SetLogLevelRequest{Level: "info"})
				return err
			},
			"a call panicked": func(ctx context.Context) error {
				_, err := gateway.ListTools(ctx, &gatewayv1.ListToolsRequest{})
				return err
			},
		} {
			logged.Reset()
			var id oteltrace.TraceID
			copy(id[:], rand.Text())
			ctx := oteltrace.ContextWithRemoteSpanContext(t.Context(), oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: id, SpanID: oteltrace.SpanID{1}}))
			expect(t, message, call(ctx), codes.Internal)
			if said := logged.String(); !strings.Contains(said, message) || !strings.Contains(said, `"trace_id":"`+id.String()+`"`) {
				t.Errorf("%s: the log of trace %s says %s", name, id, said)
			}
		}
	}
}

func TestAServiceThatDoesNotSayWhoMayCallItIsNeverStarted(t *testing.T) {
	s, err := rpc.NewServer(rpc.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	local := newLocal(t, rpc.LocalConfig{})
	unknown := grpc.ServiceDesc{ServiceName: "erlmcp.nowhere.v1.NoService", Methods: []grpc.MethodDesc{{MethodName: "Do"}}}
	// Described, and without the option.
	silent := grpc.ServiceDesc{ServiceName: "google.protobuf.DescriptorProto", Streams: []grpc.StreamDesc{{StreamName: "name"}}}
	for _, description := range []grpc.ServiceDesc{unknown, silent} {
		for name, to := range map[string]grpc.ServiceRegistrar{"server": s, "local": local} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: %s was registered", name, description.ServiceName)
					}
				}()
				to.RegisterService(&description, nil)
			}()
		}
	}
}

func TestAStoppingServerWaitsForItsCallsButNotForever(t *testing.T) {
	for name, c := range map[string]struct {
		drain    time.Duration
		finishes bool
		want     codes.Code
	}{
		"a call that ends":  {time.Minute, true, codes.OK},
		"a call that hangs": {50 * time.Millisecond, false, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p, k := newProbe(), newKeys(t)
			s, err := rpc.NewServer(rpc.ServerConfig{Services: k, Drain: c.drain})
			if err != nil {
				t.Fatal(err)
			}
			p.register(s)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			served, answered := make(chan error, 1), make(chan error, 1)
			go func() { served <- s.Serve(ctx, listener) }()
			conn := dial(t, listener.Addr().String(), rpc.ClientConfig{Node: "n@h", Services: k})
			go func() {
				_, err := gatewayv1.NewGatewayServiceClient(conn).CallTool(t.Context(), &gatewayv1.CallToolRequest{Name: "x"})
				answered <- err
			}()
			<-p.began
			stop()
			if c.finishes {
				close(p.release)
			}
			expect(t, "the call that ran", <-answered, c.want)
			if !c.finishes {
				close(p.release) // grpc waits for handlers even then
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHealthCanBeAnsweredBySomebodyElse(t *testing.T) {
	mine := health.NewServer()
	mine.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	address := serveWith(t, rpc.ServerConfig{}, func(to grpc.ServiceRegistrar) { healthv1.RegisterHealthServer(to, mine) })
	_, err := healthv1.NewHealthClient(dial(t, address+","+address, rpc.ClientConfig{})).Check(t.Context(), &healthv1.HealthCheckRequest{})
	expect(t, "a call to a service that does not serve", err, codes.Unavailable)
	conn, err := grpc.NewClient("passthrough:///"+address, insecure())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReflectionIsForViewersAndWhereAnybodyIsLetIn(t *testing.T) {
	for role, want := range map[registryv1.Role]codes.Code{
		registryv1.Role_ROLE_USER: codes.OK, registryv1.Role_ROLE_ADMIN: codes.OK,
	} {
		address := serve(t, rpc.ServerConfig{Authenticator: access.Anonymous{Role: role}})
		expect(t, role.String(), reflects(t, dial(t, address, rpc.ClientConfig{})), want)
	}
	expect(t, "nobody is let in", reflects(t, dial(t, serve(t, rpc.ServerConfig{}), rpc.ClientConfig{})), codes.Unauthenticated)
}

// noMessage is a codec that sends what is no message.
type noMessage struct{}

func (noMessage) Marshal(any) ([]byte, error) { return []byte("\xff\xff\xff"), nil }
func (noMessage) Unmarshal([]byte, any) error { return nil }
func (noMessage) Name() string                { return "proto" }

// Who can't say who they are is turned away before the message is looked at: it might be of any size.
func TestMessagesOfStrangersAreNotTaken(t *testing.T) {
	k := newKeys(t)
	address := serveWith(t, rpc.ServerConfig{Services: k}, (&administered{}).register)
	call := func(config rpc.ClientConfig) error {
		return dial(t, address, config).Invoke(t.Context(), registryv1.AccessService_ListKeys_FullMethodName, struct{}{}, new(int), grpc.ForceCodec(noMessage{}))
	}
	expect(t, "a stranger", call(rpc.ClientConfig{}), codes.Unauthenticated)
	expect(t, "a service", call(rpc.ClientConfig{Node: "n@h", Services: k}), codes.Internal)
}
