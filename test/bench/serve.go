package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/metrics"
	"time"
)

// mallocsName is the series that both /metrics of erlmcp and [Serve] have.
const mallocsName = "go_memstats_mallocs_total"

// Serve runs a handler on an address until ctx ends, and on a second address /metrics with the count of
// allocations, so that reading it does not go through what is measured.
func Serve(ctx context.Context, address, metricsAddress string, h http.Handler) error {
	counts := http.NewServeMux()
	counts.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
		metrics.Read(sample)
		fmt.Fprintf(w, "%s %d\n", mallocsName, sample[0].Value.Uint64())
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	listeners := map[net.Listener]http.Handler{}
	defer func() { // where the other one can't listen
		for l := range listeners {
			_ = l.Close()
		}
	}()
	for at, handler := range map[string]http.Handler{address: h, metricsAddress: counts} {
		listener, err := net.Listen("tcp4", at)
		if err != nil {
			return err
		}
		listeners[listener] = handler
	}
	for listener, handler := range listeners {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		go func() { ended <- server.Serve(listener) }()
	}
	err := <-ended
	asked := ctx.Err() != nil
	cancel()
	if second := <-ended; !errors.Is(second, http.ErrServerClosed) {
		err = errors.Join(err, second)
	}
	if asked {
		return nil
	}
	return err
}
