package rpc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	plaintext "google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a small service of each kind of method.
type service struct {
	gatewayv1.UnimplementedGatewayServiceServer
	sessionv1.UnimplementedSessionServiceServer
}

func (service) GetStatus(ctx context.Context, _ *gatewayv1.GetStatusRequest) (*gatewayv1.GetStatusResponse, error) {
	p, _ := access.FromContext(ctx)
	_, deadline := ctx.Deadline()
	return &gatewayv1.GetStatusResponse{Node: p.ID, Draining: deadline}, nil
}

func (service) ListTools(context.Context, *gatewayv1.ListToolsRequest) (*gatewayv1.ListToolsResponse, error) {
	panic("a bug")
}

func (service) CallTool(ctx context.Context, _ *gatewayv1.CallToolRequest) (*gatewayv1.CallToolResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (service) SetLogLevel(context.Context, *gatewayv1.SetLogLevelRequest) (*gatewayv1.SetLogLevelResponse, error) {
	return nil, errors.New("password=hunter2")
}

func (service) Send(req *sessionv1.SendRequest, to grpc.ServerStreamingServer[sessionv1.SendResponse]) error {
	for range 3 {
		if err := to.Send(&sessionv1.SendResponse{Event: &sessionv1.Event{Message: req.GetMessage()}}); err != nil {
			return err
		}
	}
	st, err := status.New(codes.FailedPrecondition, "moved").WithDetails(&sessionv1.SessionFacts{Address: "b:1"})
	if err != nil {
		return err
	}
	return st.Err()
}

func (service) WatchSessions(_ *sessionv1.WatchSessionsRequest, to grpc.ServerStreamingServer[sessionv1.WatchSessionsResponse]) error {
	if err := to.Send(&sessionv1.WatchSessionsResponse{}); err != nil {
		return err
	}
	<-to.Context().Done()
	return nil
}

func register(to grpc.ServiceRegistrar) {
	gatewayv1.RegisterGatewayServiceServer(to, service{})
	sessionv1.RegisterSessionServiceServer(to, service{})
}

// serve runs a server on loopback until the test ends.
func serve(t testing.TB, config rpc.ServerConfig) string {
	t.Helper()
	return serveWith(t, config, register)
}

// serveWith is serve for other services.
func serveWith(t testing.TB, config rpc.ServerConfig, register func(grpc.ServiceRegistrar)) string {
	t.Helper()
	s, err := rpc.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func dial(t testing.TB, address string, config rpc.ClientConfig) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newKeys(t testing.TB) *seal.Keys {
	t.Helper()
	k, err := seal.New(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// channels are the ways between services: over the network with and without TLS, and inside one process.
func channels(t *testing.T) map[string]grpc.ClientConnInterface {
	k := newKeys(t)
	serverTLS, err := k.ServerTLS("server@test")
	if err != nil {
		t.Fatal(err)
	}
	clientTLS, err := k.ClientTLS("node@test")
	if err != nil {
		t.Fatal(err)
	}
	local, err := rpc.NewLocal(rpc.LocalConfig{Node: "node@test"})
	if err != nil {
		t.Fatal(err)
	}
	register(local)
	plain := serve(t, rpc.ServerConfig{Services: k})
	return map[string]grpc.ClientConnInterface{
		"network":       dial(t, plain, rpc.ClientConfig{Node: "node@test", Services: k}),
		"TLS":           dial(t, serve(t, rpc.ServerConfig{Services: k, TLS: serverTLS}), rpc.ClientConfig{Node: "node@test", Services: k, TLS: clientTLS}),
		"two addresses": dial(t, plain+","+serve(t, rpc.ServerConfig{Services: k}), rpc.ClientConfig{Node: "node@test", Services: k}),
		"local":         local,
	}
}

func TestServicesReachOneAnotherTheSameWayOverEveryChannel(t *testing.T) {
	for name, conn := range channels(t) {
		t.Run(name, func(t *testing.T) {
			gateway, session := gatewayv1.NewGatewayServiceClient(conn), sessionv1.NewSessionServiceClient(conn)
			got, err := gateway.GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
			if err != nil || got.GetNode() != "node@test" || !got.GetDraining() {
				t.Errorf("got %v, %v; want the node's name and a deadline", got, err)
			}

			_, err = gateway.ListTools(t.Context(), &gatewayv1.ListToolsRequest{})
			if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "a bug") {
				t.Errorf("a panic: %v", err)
			}
			_, err = gateway.SetLogLevel(t.Context(), &gatewayv1.SetLogLevelRequest{Level: "info"})
			if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "reference") {
				t.Errorf("an unknown error: %v", err)
			}
			short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err = gateway.CallTool(short, &gatewayv1.CallToolRequest{Name: "x"}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a deadline: %v", err)
			}

			_, err = gateway.SetLogLevel(t.Context(), &gatewayv1.SetLogLevelRequest{Level: "loud"})
			if status.Code(err) != codes.InvalidArgument || len(details[*errdetails.BadRequest](err)) != 1 {
				t.Errorf("an invalid request: %v", err)
			}

			stream, err := session.Send(t.Context(), &sessionv1.SendRequest{SessionId: "6f0c1f2e-6c36-4d64-8a5e-5a4ff5f9a2aa", Message: []byte("{}")})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; err == nil; n++ {
				_, err = stream.Recv()
			}
			facts := details[*sessionv1.SessionFacts](err)
			if n != 4 || status.Code(err) != codes.FailedPrecondition || len(facts) != 1 || facts[0].GetAddress() != "b:1" {
				t.Errorf("%d messages, then %v", n-1, err)
			}
			stream, err = session.Send(t.Context(), &sessionv1.SendRequest{SessionId: "none", Message: []byte("{}")})
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("an invalid request of a stream: %v", err)
			}

			ctx, cancelWatch := context.WithCancel(t.Context())
			watch, err := session.WatchSessions(ctx, &sessionv1.WatchSessionsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}
			cancelWatch()
			if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("a cancelled stream: %v", err)
			}
		})
	}
}

func details[T any](err error) []T {
	var found []T
	for _, d := range status.Convert(err).Details() {
		if m, ok := d.(T); ok {
			found = append(found, m)
		}
	}
	return found
}

func TestWhoMayCallWhat(t *testing.T) {
	k := newKeys(t)
	var keys access.KeySet
	secrets := map[registryv1.Role]string{}
	var records []*registryv1.KeyRecord
	for _, role := range []registryv1.Role{registryv1.Role_ROLE_USER, registryv1.Role_ROLE_VIEWER, registryv1.Role_ROLE_ADMIN} {
		record, secret, err := access.NewKey(role.String(), role, "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		records, secrets[role] = append(records, record), secret
	}
	keys.Apply(true, records, nil)
	address := serve(t, rpc.ServerConfig{Services: k, Authenticator: access.Chain{Keys: &keys}})
	service := dial(t, address, rpc.ClientConfig{Node: "n@h", Services: k})
	stranger := dial(t, address, rpc.ClientConfig{Node: "n@h", Services: newKeys(t)})
	anyone := dial(t, address, rpc.ClientConfig{})
	as := func(role registryv1.Role) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secrets[role])
	}
	for _, c := range []struct {
		name                   string
		conn                   *grpc.ClientConn
		ctx                    context.Context
		viewer, admin, service codes.Code
	}{
		{"a service", service, t.Context(), codes.OK, codes.Internal, codes.OK},
		{"a service of another cluster", stranger, t.Context(), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"nobody", anyone, t.Context(), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"a user", anyone, as(registryv1.Role_ROLE_USER), codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied},
		{"a viewer", anyone, as(registryv1.Role_ROLE_VIEWER), codes.OK, codes.PermissionDenied, codes.PermissionDenied},
		{"an admin", anyone, as(registryv1.Role_ROLE_ADMIN), codes.OK, codes.Internal, codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			gateway := gatewayv1.NewGatewayServiceClient(c.conn)
			_, err := gateway.GetStatus(c.ctx, &gatewayv1.GetStatusRequest{})
			expect(t, "a viewer's method", err, c.viewer)
			_, err = gateway.SetLogLevel(c.ctx, &gatewayv1.SetLogLevelRequest{Level: "info"})
			expect(t, "an admin's method", err, c.admin)
			ctx, cancel := context.WithCancel(c.ctx)
			defer cancel()
			watch, err := sessionv1.NewSessionServiceClient(c.conn).WatchSessions(ctx, &sessionv1.WatchSessionsRequest{})
			if err == nil {
				_, err = watch.Recv()
			}
			expect(t, "a service's method", err, c.service)
			_, err = healthv1.NewHealthClient(c.conn).Check(c.ctx, &healthv1.HealthCheckRequest{})
			expect(t, "health", err, codes.OK)
			expect(t, "reflection", reflectsWith(c.ctx, c.conn), c.viewer)
		})
	}
}

// reflectsWith asks for the list of services.
func reflectsWith(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reflection, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err == nil {
		_ = reflection.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		_, err = reflection.Recv()
	}
	return err
}

func reflects(t *testing.T, conn *grpc.ClientConn) error { return reflectsWith(t.Context(), conn) }

func insecure() grpc.DialOption { return grpc.WithTransportCredentials(plaintext.NewCredentials()) }

func expect(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestAServiceOfAnotherClusterIsRefusedByTLS(t *testing.T) {
	k := newKeys(t)
	serverTLS, err := k.ServerTLS("server@test")
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, rpc.ServerConfig{Services: k, TLS: serverTLS})
	other := newKeys(t)
	otherTLS, err := other.ClientTLS("node@test")
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, address, rpc.ClientConfig{Node: "node@test", Services: k, TLS: otherTLS})
	_, err = gatewayv1.NewGatewayServiceClient(conn).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
	expect(t, "another cluster's certificate", err, codes.Unavailable)
}

func TestPeersCallThemselvesLocally(t *testing.T) {
	local, err := rpc.NewLocal(rpc.LocalConfig{Node: "me@here"})
	if err != nil {
		t.Fatal(err)
	}
	register(local)
	peers := rpc.NewPeers(rpc.ClientConfig{}, "here:1", local)
	defer peers.Close()
	conn, err := peers.Conn("here:1")
	if err != nil || conn != grpc.ClientConnInterface(local) {
		t.Errorf("got %v, %v", conn, err)
	}
	a, _ := peers.Conn("127.0.0.1:1")
	b, _ := peers.Conn("127.0.0.1:1")
	if a != b {
		t.Error("an address got two connections")
	}
}

func BenchmarkUnary(b *testing.B) {
	k := newKeys(b)
	local, err := rpc.NewLocal(rpc.LocalConfig{Node: "n@h"})
	if err != nil {
		b.Fatal(err)
	}
	register(local)
	for name, conn := range map[string]grpc.ClientConnInterface{
		"local":   local,
		"network": dial(b, serve(b, rpc.ServerConfig{Services: k}), rpc.ClientConfig{Node: "n@h", Services: k}),
	} {
		b.Run(name, func(b *testing.B) {
			client := gatewayv1.NewGatewayServiceClient(conn)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.GetStatus(b.Context(), &gatewayv1.GetStatusRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
