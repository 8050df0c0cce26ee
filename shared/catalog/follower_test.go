package catalog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
)

// registry sends a snapshot to who watches, while it is there.
type registry struct {
	registryv1.RegistryServiceClient

	mu    sync.Mutex
	there context.Context // nil while it is away
	empty bool            // it has no catalogue to send yet
}

// come has it there, with a catalogue or none yet; leave ends its streams.
func (r *registry) come(empty bool) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.there, r.empty = ctx, empty
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.there, r.empty = nil, false
		cancel()
	}
}

func (r *registry) WatchCatalog(ctx context.Context, _ *registryv1.WatchCatalogRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[registryv1.WatchCatalogResponse], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.there == nil {
		return nil, status.Error(codes.Unavailable, "away")
	}
	return &catalogStream{ctx: ctx, there: r.there, told: r.empty}, nil
}

type catalogStream struct {
	grpc.ClientStream

	ctx, there context.Context
	told       bool
}

func (s *catalogStream) Recv() (*registryv1.WatchCatalogResponse, error) {
	if !s.told {
		s.told = true
		return &registryv1.WatchCatalogResponse{Version: 1, Snapshot: true}, nil
	}
	select {
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	case <-s.there.Done():
		return nil, status.Error(codes.Unavailable, "gone")
	}
}

func TestACatalogueIsFreshWhileItsRegistryIsThereAndAShortWhileLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{}
		f := catalog.NewFollower(catalog.FollowerConfig{Registry: r})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		expect := func(when string, want error) {
			t.Helper()
			synctest.Wait()
			if err := f.Fresh(); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		expect("before there is one", catalog.ErrNotLoaded)
		leave := r.come(false)
		time.Sleep(15 * time.Second) // it is tried again within 10 s
		expect("with the registry", nil)
		time.Sleep(time.Hour)
		expect("though nothing changed for long", nil)
		leave()
		time.Sleep(20 * time.Second)
		expect("the registry is rolled", nil)
		leave = r.come(false)
		time.Sleep(15 * time.Second)
		expect("it is back", nil)
		leave()
		time.Sleep(20 * time.Second)
		expect("it is rolled again, which counts anew", nil)
		time.Sleep(11 * time.Second)
		expect("it stays away", catalog.ErrOld)
		if f.Ready() != nil {
			t.Error("the last catalogue is not served any more")
		}
		leave = r.come(true)
		time.Sleep(15 * time.Second)
		expect("it is back and has nothing to tell yet", catalog.ErrOld)
		leave()
		leave = r.come(false)
		time.Sleep(15 * time.Second)
		expect("it is back", nil)
		leave()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
