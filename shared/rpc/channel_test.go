package rpc_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/rpc"
)

const someSession = "6f0c1f2e-6c36-4d64-8a5e-5a4ff5f9a2aa"

// probe is a service that shows what crosses a channel.
type probe struct {
	gatewayv1.UnimplementedGatewayServiceServer
	sessionv1.UnimplementedSessionServiceServer
	held    *gatewayv1.GetStatusResponse
	began   chan struct{} // one for each CallTool
	release chan struct{} // what CallTool waits for, whatever its context says
	sent    chan struct{} // one for each message that Listen sent
}

func newProbe() *probe {
	return &probe{
		held:    &gatewayv1.GetStatusResponse{Connections: map[string]uint32{"ws": 1}},
		began:   make(chan struct{}, 10),
		release: make(chan struct{}),
		sent:    make(chan struct{}, 1000),
	}
}

func (p *probe) register(to grpc.ServiceRegistrar) {
	gatewayv1.RegisterGatewayServiceServer(to, p)
	sessionv1.RegisterSessionServiceServer(to, p)
}

func (p *probe) GetStatus(ctx context.Context, _ *gatewayv1.GetStatusRequest) (*gatewayv1.GetStatusResponse, error) {
	if ctx.Value(secretKey{}) != nil {
		return nil, status.Error(codes.Internal, "a context value came across")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, metadata.Pairs("echo", strings.Join(md["ask"], "+"))); err != nil {
		return nil, err
	}
	return p.held, grpc.SetTrailer(ctx, metadata.Pairs("bye", "1"))
}

func (p *probe) CallTool(_ context.Context, req *gatewayv1.CallToolRequest) (*gatewayv1.CallToolResponse, error) {
	p.began <- struct{}{}
	<-p.release
	req.Name = "changed by the handler"
	return &gatewayv1.CallToolResponse{}, nil
}

func (p *probe) Send(req *sessionv1.SendRequest, to grpc.ServerStreamingServer[sessionv1.SendResponse]) error {
	md, _ := metadata.FromIncomingContext(to.Context())
	if err := to.SetHeader(metadata.Pairs("one", "1")); err != nil {
		return err
	}
	if err := to.SendHeader(metadata.Pairs("echo", strings.Join(md["ask"], "+"))); err != nil {
		return err
	}
	if err := to.SetHeader(metadata.Pairs("late", "1")); err == nil {
		return status.Error(codes.Internal, "a header was taken after it was sent")
	}
	to.SetTrailer(metadata.Pairs("bye", "1"))
	response := &sessionv1.SendResponse{Event: &sessionv1.Event{Message: req.GetMessage()}}
	for i := range 3 {
		response.Event.Message[0] = byte('a' + i) // the same message again: what was sent before must not change
		if err := to.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) Listen(_ *sessionv1.ListenRequest, to grpc.ServerStreamingServer[sessionv1.ListenResponse]) error {
	big := &sessionv1.ListenResponse{Event: &sessionv1.Event{Message: make([]byte, 1<<20)}}
	for {
		if err := to.Send(big); err != nil {
			if to.Context().Err() == nil {
				return errors.New("sending failed before the stream's end: " + err.Error())
			}
			close(p.sent)
			return err
		}
		p.sent <- struct{}{}
	}
}

type secretKey struct{}

// eachChannel runs a test over the network and inside the process.
func eachChannel(t *testing.T, test func(t *testing.T, p *probe, conn grpc.ClientConnInterface)) {
	t.Run("network", func(t *testing.T) {
		p, k := newProbe(), newKeys(t)
		address := serveWith(t, rpc.ServerConfig{Services: k}, p.register)
		test(t, p, dial(t, address, rpc.ClientConfig{Node: "n@h", Services: k}))
	})
	t.Run("local", func(t *testing.T) {
		p := newProbe()
		local := newLocal(t, rpc.LocalConfig{Node: "n@h"})
		p.register(local)
		test(t, p, local)
	})
}

func newLocal(t testing.TB, config rpc.LocalConfig) *rpc.Local {
	t.Helper()
	local, err := rpc.NewLocal(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := local.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return local
}

func TestMetadataTravelsBothWays(t *testing.T) {
	eachChannel(t, func(t *testing.T, _ *probe, conn grpc.ClientConnInterface) {
		ctx := metadata.AppendToOutgoingContext(context.WithValue(t.Context(), secretKey{}, 1), "Ask", "a", "ask", "b")
		var header, trailer metadata.MD
		_, err := gatewayv1.NewGatewayServiceClient(conn).GetStatus(ctx, &gatewayv1.GetStatusRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil || !slices.Equal(header["echo"], []string{"a+b"}) || !slices.Equal(trailer["bye"], []string{"1"}) {
			t.Errorf("a call: %v %v %v", header, trailer, err)
		}
		stream, err := sessionv1.NewSessionServiceClient(conn).Send(ctx, &sessionv1.SendRequest{SessionId: someSession, Message: []byte("..")})
		if err != nil {
			t.Fatal(err)
		}
		header, err = stream.Header()
		if err != nil || !slices.Equal(header["echo"], []string{"a+b"}) || !slices.Equal(header["one"], []string{"1"}) {
			t.Errorf("a stream's header: %v, %v", header, err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) || !slices.Equal(stream.Trailer()["bye"], []string{"1"}) {
			t.Errorf("a stream's end: %v, %v", stream.Trailer(), err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestMessagesAreNeverShared(t *testing.T) {
	eachChannel(t, func(t *testing.T, p *probe, conn grpc.ClientConnInterface) {
		got, err := gatewayv1.NewGatewayServiceClient(conn).GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
		if err != nil || got.Connections["ws"] != 1 {
			t.Fatal(got, err)
		}
		got.Connections["ws"] = 2
		if p.held.Connections["ws"] != 1 {
			t.Error("the caller changed what the handler holds")
		}
		req := &sessionv1.SendRequest{SessionId: someSession, Message: []byte("..")}
		stream, err := sessionv1.NewSessionServiceClient(conn).Send(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for {
			message, err := stream.Recv()
			if err != nil {
				break
			}
			all = append(all, string(message.GetEvent().GetMessage()))
		}
		if want := []string{"a.", "b.", "c."}; !slices.Equal(all, want) || string(req.Message) != ".." {
			t.Errorf("got %q, want %q; the request is now %q", all, want, req.Message)
		}
	})
}

func TestAGivenUpCallReturnsThoughItsHandlerDoesNot(t *testing.T) {
	eachChannel(t, func(t *testing.T, p *probe, conn grpc.ClientConnInterface) {
		defer close(p.release)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		req := &gatewayv1.CallToolRequest{Name: "x"}
		_, err := gatewayv1.NewGatewayServiceClient(conn).CallTool(ctx, req)
		expect(t, "the call", err, codes.DeadlineExceeded)
		req.Name = "the caller's again"
	})
}

func TestACallWhoseTimeIsUpIsNotBegun(t *testing.T) {
	eachChannel(t, func(t *testing.T, p *probe, conn grpc.ClientConnInterface) {
		close(p.release)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := gatewayv1.NewGatewayServiceClient(conn).CallTool(ctx, &gatewayv1.CallToolRequest{Name: "x"})
		expect(t, "the call", err, codes.Canceled)
		if len(p.began) > 0 {
			t.Error("it was begun")
		}
		stream, err := sessionv1.NewSessionServiceClient(conn).Listen(ctx, &sessionv1.ListenRequest{SessionId: someSession})
		if err == nil {
			_, err = stream.Recv()
		}
		expect(t, "the stream", err, codes.Canceled)
	})
}

func TestASlowReaderHoldsItsSenderUp(t *testing.T) {
	eachChannel(t, func(t *testing.T, p *probe, conn grpc.ClientConnInterface) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := sessionv1.NewSessionServiceClient(conn).Listen(ctx, &sessionv1.ListenRequest{SessionId: someSession})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		// Nobody reads on. The sender must come to a halt, and far below what it could have sent.
		n, quiet := 0, time.NewTimer(200*time.Millisecond)
		for halted := false; !halted; {
			select {
			case <-p.sent:
				n++
				quiet.Reset(200 * time.Millisecond)
			case <-quiet.C:
				halted = true
			}
		}
		if n > 50 {
			t.Errorf("%d MB were sent to a reader that took one", n)
		}
		cancel()
		for range p.sent { // closed once the handler saw the end
		}
	})
}

func TestMethodsThatAreNotThereAreUnimplemented(t *testing.T) {
	eachChannel(t, func(t *testing.T, _ *probe, conn grpc.ClientConnInterface) {
		_, err := registryv1.NewAccessServiceClient(conn).ListKeys(t.Context(), &registryv1.ListKeysRequest{})
		expect(t, "a service that is not registered", err, codes.Unimplemented)
		_, err = sessionv1.NewSessionServiceClient(conn).ListSessions(t.Context(), &sessionv1.ListSessionsRequest{})
		expect(t, "a method that is not implemented", err, codes.Unimplemented)
		stream, err := registryv1.NewRegistryServiceClient(conn).WatchCatalog(t.Context(), &registryv1.WatchCatalogRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		expect(t, "a stream that is not registered", err, codes.Unimplemented)
	})
}

func TestLargeMessagesPass(t *testing.T) {
	eachChannel(t, func(t *testing.T, _ *probe, conn grpc.ClientConnInterface) {
		stream, err := sessionv1.NewSessionServiceClient(conn).Send(t.Context(), &sessionv1.SendRequest{SessionId: someSession, Message: make([]byte, 20<<20)})
		if err != nil {
			t.Fatal(err)
		}
		message, err := stream.Recv()
		if err != nil || len(message.GetEvent().GetMessage()) != 20<<20 {
			t.Errorf("got %d bytes, %v", len(message.GetEvent().GetMessage()), err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
	})
}

func TestAServiceActsForAPrincipalWithItsRightsOnly(t *testing.T) {
	test := func(t *testing.T, conn grpc.ClientConnInterface) {
		gateway := gatewayv1.NewGatewayServiceClient(conn)
		viewer := access.Principal{ID: "zoë", Role: registryv1.Role_ROLE_VIEWER, Method: access.MethodKey}
		ctx := rpc.OnBehalf(t.Context(), viewer)
		got, err := gateway.GetStatus(ctx, &gatewayv1.GetStatusRequest{})
		if err != nil || got.GetNode() != viewer.ID {
			t.Errorf("got %v, %v", got, err)
		}
		_, err = gateway.SetLogLevel(ctx, &gatewayv1.SetLogLevelRequest{Level: "info"})
		expect(t, "an admin's method", err, codes.PermissionDenied)
	}
	k := newKeys(t)
	t.Run("network", func(t *testing.T) {
		test(t, dial(t, serve(t, rpc.ServerConfig{Services: k}), rpc.ClientConfig{Node: "n@h", Services: k}))
	})
	t.Run("local", func(t *testing.T) {
		local := newLocal(t, rpc.LocalConfig{Node: "n@h"})
		register(local)
		test(t, local)
	})
	t.Run("nobody else may", func(t *testing.T) {
		address := serve(t, rpc.ServerConfig{Services: k, Authenticator: access.Anonymous{Role: registryv1.Role_ROLE_USER}})
		admin := rpc.OnBehalf(t.Context(), access.Principal{ID: "root", Role: registryv1.Role_ROLE_ADMIN, Method: access.MethodKey})
		_, err := gatewayv1.NewGatewayServiceClient(dial(t, address, rpc.ClientConfig{})).GetStatus(admin, &gatewayv1.GetStatusRequest{})
		expect(t, "a stranger who claims to be an admin", err, codes.PermissionDenied)
	})
}

func TestAClosedLocalWaitsForItsCallsAndTakesNoMore(t *testing.T) {
	p := newProbe()
	local := newLocal(t, rpc.LocalConfig{Node: "n@h"})
	p.register(local)
	gateway := gatewayv1.NewGatewayServiceClient(local)
	answered := make(chan error, 1)
	go func() {
		_, err := gateway.CallTool(t.Context(), &gatewayv1.CallToolRequest{Name: "x"})
		answered <- err
	}()
	<-p.began
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if local.Close(impatient) == nil {
		t.Error("Close did not wait")
	}
	_, err := gateway.GetStatus(t.Context(), &gatewayv1.GetStatusRequest{})
	expect(t, "a call after Close", err, codes.Unavailable)
	close(p.release)
	if err := local.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
}
