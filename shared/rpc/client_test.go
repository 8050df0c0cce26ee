package rpc_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/rpc"
)

// replica is one of several servers.
type replica struct {
	gatewayv1.UnimplementedGatewayServiceServer
	server  *rpc.Server
	address string
	calls   atomic.Int32
	stop    func() // hard
}

func (r *replica) GetStatus(context.Context, *gatewayv1.GetStatusRequest) (*gatewayv1.GetStatusResponse, error) {
	r.calls.Add(1)
	return &gatewayv1.GetStatusResponse{Node: r.address}, nil
}

// SetLogLevel is what must not be done twice. The replica dies over it.
func (r *replica) SetLogLevel(ctx context.Context, _ *gatewayv1.SetLogLevelRequest) (*gatewayv1.SetLogLevelResponse, error) {
	r.calls.Add(1)
	go r.stop()
	<-ctx.Done()
	return nil, ctx.Err()
}

func startReplica(t *testing.T, services rpc.ServiceCredentials) *replica {
	t.Helper()
	r := &replica{}
	var err error
	if r.server, err = rpc.NewServer(rpc.ServerConfig{Services: services}); err != nil {
		t.Fatal(err)
	}
	gatewayv1.RegisterGatewayServiceServer(r.server, r)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address, r.stop = listener.Addr().String(), r.server.Stop
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_ = r.server.Serve(ctx, listener) // a stopped one says so
	}()
	t.Cleanup(func() { cancel(); r.server.Stop(); <-done })
	return r
}

func TestCallsGoToThoseThatServe(t *testing.T) {
	k := newKeys(t)
	a, b := startReplica(t, k), startReplica(t, k)
	gateway := gatewayv1.NewGatewayServiceClient(dial(t, a.address+", dns:///"+b.address, rpc.ClientConfig{Node: "n@h", Services: k}))
	// Each state comes about a little after its cause, and then it stays.
	reached := func(want ...string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			got := map[string]bool{}
			for range 20 {
				response, err := gateway.GetStatus(t.Context(), &gatewayv1.GetStatusRequest{}, grpc.WaitForReady(true))
				if err != nil {
					t.Fatal(err)
				}
				got[response.GetNode()] = true
			}
			same := len(got) == len(want)
			for _, w := range want {
				same = same && got[w]
			}
			if same {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("calls reach %v, want %v", got, want)
			}
		}
	}
	reached(a.address, b.address)
	a.server.Health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	reached(b.address)
	a.server.Health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	reached(a.address, b.address)
	b.server.GracefulStop() // nothing holds it up: clients that watch its health let go
	reached(a.address)
}

func TestACallThatMayHaveBeenDoneIsNotRepeated(t *testing.T) {
	k := newKeys(t)
	a, b := startReplica(t, k), startReplica(t, k)
	gateway := gatewayv1.NewGatewayServiceClient(dial(t, a.address+","+b.address, rpc.ClientConfig{Node: "n@h", Services: k}))
	_, err := gateway.SetLogLevel(t.Context(), &gatewayv1.SetLogLevelRequest{Level: "info"})
	expect(t, "a call whose server died", err, codes.Unavailable)
	if n := a.calls.Load() + b.calls.Load(); n != 1 {
		t.Errorf("it was done %d times", n)
	}
}

func TestTargets(t *testing.T) {
	k := newKeys(t)
	r := startReplica(t, k)
	_, port, _ := net.SplitHostPort(r.address)
	for _, target := range []string{r.address, "localhost:" + port, "dns:///127.0.0.1:" + port, "passthrough:///" + r.address, r.address + "," + r.address} {
		conn := dial(t, target, rpc.ClientConfig{Node: "n@h", Services: k})
		if _, err := gatewayv1.NewGatewayServiceClient(conn).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{}); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, target := range []string{"", " ", "a:1,", "a:1,b", "a:1,unix:/tmp/x", ",", "a:1,b:99999"} {
		if conn, err := rpc.Dial(target, rpc.ClientConfig{}); err == nil {
			_ = conn.Close()
			t.Errorf("%q was taken", target)
		}
	}
}

// countingCredentials count how many were made.
type countingCredentials struct {
	rpc.ServiceCredentials
	made atomic.Int32
}

func (c *countingCredentials) Credential(node string, now time.Time) string {
	c.made.Add(1)
	return c.ServiceCredentials.Credential(node, now)
}

func TestACredentialServesManyCalls(t *testing.T) {
	k := newKeys(t)
	counting := &countingCredentials{ServiceCredentials: k}
	r := startReplica(t, k)
	gateway := gatewayv1.NewGatewayServiceClient(dial(t, r.address, rpc.ClientConfig{Node: "n@h", Services: counting}))
	for range 50 {
		if _, err := gateway.GetStatus(t.Context(), &gatewayv1.GetStatusRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := counting.made.Load(); n != 1 {
		t.Errorf("%d credentials were made for 50 calls", n)
	}
}

func TestPeersKeepWhatIsInUse(t *testing.T) {
	p, k := newProbe(), newKeys(t)
	address := serveWith(t, rpc.ServerConfig{Services: k}, p.register)
	peers := rpc.NewPeers(rpc.ClientConfig{Node: "n@h", Services: k}, "", nil)
	conn, err := peers.Conn(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sessionv1.NewSessionServiceClient(conn).Listen(ctx, &sessionv1.ListenRequest{SessionId: someSession})
	if err != nil {
		t.Fatal(err)
	}
	others := func() {
		t.Helper()
		for i := range 1100 { // more than are kept
			if _, err := peers.Conn(fmt.Sprintf("127.0.0.1:%d", i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	others()
	for range 20 {
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("the stream was broken: %v", err)
		}
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	others() // and so the connection itself goes
	if _, err := gatewayv1.NewGatewayServiceClient(conn).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{}); err != nil {
		t.Errorf("a channel that was kept for long: %v", err)
	}
	if err := peers.Close(); err != nil {
		t.Error(err)
	}
	_, err = gatewayv1.NewGatewayServiceClient(conn).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
	expect(t, "a call after Close", err, codes.Unavailable)
	if _, err := peers.Conn(address); err == nil {
		t.Error("a connection after Close")
	}
}

func TestAnOperatorNeedsNoCertificate(t *testing.T) {
	k := newKeys(t)
	serverTLS, err := k.ServerTLS("server@test")
	if err != nil {
		t.Fatal(err)
	}
	operatorTLS, err := k.ClientTLS("x@y")
	if err != nil {
		t.Fatal(err)
	}
	operatorTLS.GetClientCertificate = nil
	address := serve(t, rpc.ServerConfig{TLS: serverTLS, Authenticator: access.Anonymous{Role: 2}})
	_, err = gatewayv1.NewGatewayServiceClient(dial(t, address, rpc.ClientConfig{TLS: operatorTLS})).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
	expect(t, "a call with a bearer token's rights", err, codes.OK)
}
