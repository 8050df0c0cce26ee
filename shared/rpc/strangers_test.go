package rpc_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	plaintext "google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/testkit"
)

func strangeConn(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(plaintext.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Who has no credential may ask for health, a few at a time and each for some seconds; others don't notice.
func TestStrangersTakeFewPlacesForAMoment(t *testing.T) {
	k := newKeys(t)
	r := startReplica(t, k)
	stranger := healthv1.NewHealthClient(strangeConn(t, r.address))
	known := healthv1.NewHealthClient(dial(t, r.address, rpc.ClientConfig{Node: "n@h", Services: k}))
	var watches []grpc.ServerStreamingClient[healthv1.HealthCheckResponse]
	var refused error
	began := time.Now()
	for refused == nil && len(watches) < 1000 {
		w, err := stranger.Watch(t.Context(), &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = w.Recv()
		}
		watches, refused = append(watches, w), err
	}
	if status.Code(refused) != codes.ResourceExhausted {
		t.Fatalf("after %d watches: %v", len(watches), refused)
	}
	if _, err := known.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	for {
		if _, err := watches[0].Recv(); err != nil {
			if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Canceled {
				t.Error(err)
			}
			break
		}
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a stranger watched for %v", took)
	}
	testkit.Eventually(t, func() error {
		_, err := stranger.Check(t.Context(), &healthv1.HealthCheckRequest{})
		return err
	}, 10*time.Second)
	// Many may come one after the other.
	for range 100 {
		if _, err := stranger.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A short message can't become a long one.
func TestCompressedMessagesAreRefused(t *testing.T) {
	k := newKeys(t)
	r := startReplica(t, k)
	compressed := grpc.UseCompressor(gzip.Name)
	_, err := healthv1.NewHealthClient(strangeConn(t, r.address)).Check(t.Context(), &healthv1.HealthCheckRequest{Service: strings.Repeat("x", 1<<20)}, compressed)
	if err == nil || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("a stranger's: %v", err)
	}
	_, err = gatewayv1.NewGatewayServiceClient(dial(t, r.address, rpc.ClientConfig{Node: "n@h", Services: k})).CallTool(t.Context(), &gatewayv1.CallToolRequest{Name: "x"}, compressed)
	if err == nil || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("a service's: %v", err)
	}
}
