// Command orderdesk serves the order desk over gRPC.
//
//	orderdesk -listen 127.0.0.1:50051     # prints "listening on 127.0.0.1:50051"
//	grpcurl -plaintext 127.0.0.1:50051 describe orderdesk.v1.OrderDeskService
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"erlmcp.dev/examples/orderdesk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "orderdesk:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	address := flag.String("listen", "127.0.0.1:50051", "address to listen on; port 0 picks a free one")
	step := flag.Duration("step", 2*time.Second, "how long an order stays in each of its states")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	desk := orderdesk.New()
	desk.Step = *step
	server := grpc.NewServer()
	orderdesk.Register(server, desk)
	fmt.Println("listening on", listener.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// Watched orders may take long; calls get a few seconds to end.
	patience := time.AfterFunc(5*time.Second, server.Stop)
	defer patience.Stop()
	server.GracefulStop()
	return <-served
}
