package rpc_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/rpc"
)

// echo answers a Send with its message, once, as an owner does with most requests.
type echo struct {
	sessionv1.UnimplementedSessionServiceServer
}

func (echo) Send(req *sessionv1.SendRequest, to grpc.ServerStreamingServer[sessionv1.SendResponse]) error {
	return to.Send(&sessionv1.SendResponse{Event: &sessionv1.Event{Message: req.GetMessage()}})
}

// BenchmarkStream is a session-bound call: a request, one event, the end of the stream.
func BenchmarkStream(b *testing.B) {
	k := newKeys(b)
	local, err := rpc.NewLocal(rpc.LocalConfig{Node: "n@h"})
	if err != nil {
		b.Fatal(err)
	}
	sessionv1.RegisterSessionServiceServer(local, echo{})
	address := serveWith(b, rpc.ServerConfig{Services: k}, func(to grpc.ServiceRegistrar) { sessionv1.RegisterSessionServiceServer(to, echo{}) })
	for name, conn := range map[string]grpc.ClientConnInterface{
		"local":   local,
		"network": dial(b, address, rpc.ClientConfig{Node: "n@h", Services: k}),
	} {
		for _, size := range []int{100, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				client := sessionv1.NewSessionServiceClient(conn)
				req := &sessionv1.SendRequest{SessionId: "6f0c1f2e-6c36-4d64-8a5e-5a4ff5f9a2aa", Message: make([]byte, size)}
				b.ReportAllocs()
				for b.Loop() {
					stream, err := client.Send(b.Context(), req)
					if err != nil {
						b.Fatal(err)
					}
					for err == nil {
						_, err = stream.Recv()
					}
					if !errors.Is(err, io.EOF) {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
