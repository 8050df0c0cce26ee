package metrics_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/services/metrics"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/usage"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// TestEveryCallCountsOnceThoughTheServiceComesAndGoes has two nodes count, while the service is stopped and started
// again and answers get lost after their batch was kept.
func TestEveryCallCountsOnceThoughTheServiceComesAndGoes(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		service := metrics.New(metrics.Config{Store: s})
		var lost atomic.Int64
		lossy := grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			answer, err := handle(ctx, req)
			if _, ok := req.(*metricsv1.RecordUsageRequest); ok && err == nil && lost.Add(1)%2 == 0 {
				return nil, status.Error(codes.Unavailable, "the answer got lost")
			}
			return answer, err
		})
		addr, stop := listen(t, service, "127.0.0.1:0", lossy)
		quick := grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.6, MaxDelay: 10 * time.Millisecond},
			MinConnectTimeout: 10 * time.Second,
		})

		ctx, cancel := context.WithCancel(t.Context())
		var recorders sync.WaitGroup
		defer recorders.Wait()
		defer cancel()
		var recorded atomic.Uint64
		record := func() {}
		for i := range 2 {
			r, err := usage.NewRecorder(usage.RecorderConfig{
				Client: dial(t, addr, quick), Node: "erlmcp@same", Dir: t.TempDir(), Log: testkit.Logger(t).With("recorder", i), Interval: 2 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			recorders.Go(func() {
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
				if n := r.Dropped(); n != 0 {
					t.Errorf("%d calls dropped", n)
				}
			})
			before := record
			record = func() {
				before()
				r.Record("ann", "", "weather", "tools/call", "rain", false, time.Millisecond)
				recorded.Add(1)
			}
		}

		batches := func(more int64) { // waits until so many more were taken
			t.Helper()
			goal := lost.Load() + more
			testkit.Eventually(t, func() bool { record(); return lost.Load() >= goal }, 30*time.Second)
		}
		for range 3 {
			batches(6)
			stop()
			for range 1000 {
				record() // nobody listens
			}
			_, stop = listen(t, service, addr, lossy)
		}
		batches(6)

		query := dial(t, addr)
		testkit.Eventually(t, func() bool {
			got, err := query.QueryUsage(t.Context(), &metricsv1.QueryUsageRequest{})
			return err == nil && len(got.GetUsage()) == 1 && got.GetUsage()[0].GetCalls() == recorded.Load()
		}, 30*time.Second)
		cancel()
		recorders.Wait()
		got, err := query.QueryUsage(t.Context(), &metricsv1.QueryUsageRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := got.GetUsage()[0].GetCalls(); n != recorded.Load() {
			t.Errorf("%d calls counted after the end, %d recorded", n, recorded.Load())
		}
	})
}
