package catalog

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Follower keeps the newest catalogue. It goes on with the last one while the registry is away.
type Follower struct {
	config  FollowerConfig
	current atomic.Pointer[Catalog]
	loaded  chan struct{}             // closed once the first catalogue is there
	lost    atomic.Pointer[time.Time] // since when nothing is heard of the registry; nil while its stream stands
}

// FollowerConfig is what a Follower needs.
type FollowerConfig struct {
	Registry registryv1.RegistryServiceClient
	// Changed is called with each new catalogue and the one before, in order, from one goroutine. Optional.
	Changed func(before, now *Catalog)
	// Keys takes the API keys that come with a change. Optional.
	Keys func(snapshot bool, changed []*registryv1.KeyRecord, removed []string)
	Log  *slog.Logger
}

// NewFollower makes a Follower; Run fills it.
func NewFollower(config FollowerConfig) *Follower {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{config: config, loaded: make(chan struct{})}
	f.current.Store(New())
	return f
}

// Current returns the newest catalogue, an empty one of version 0 before the first came.
func (f *Follower) Current() *Catalog { return f.current.Load() }

// ErrNotLoaded: no catalogue came yet.
var ErrNotLoaded = errors.New("no catalogue from the registry yet")

// Ready is nil once there is a catalogue.
func (f *Follower) Ready() error {
	select {
	case <-f.loaded:
		return nil
	default:
		return ErrNotLoaded
	}
}

// Grace is how long the registry may be away until the catalogue counts as old: longer than it takes to roll one.
const Grace = 30 * time.Second

// ErrOld: the registry is away for longer than [Grace].
var ErrOld = errors.New("nothing is heard of the registry; serving its last catalogue")

// Fresh is nil while the catalogue is the newest, as far as the registry that is followed knows. It is [ErrNotLoaded]
// or [ErrOld] otherwise. A registry that froze is found out by the connection's keep-alive, some 15 s later.
func (f *Follower) Fresh() error {
	if err := f.Ready(); err != nil {
		return err
	}
	if lost := f.lost.Load(); lost != nil && time.Since(*lost) > Grace {
		return ErrOld
	}
	return nil
}

// Await waits until there is a catalogue, or ctx ends.
func (f *Follower) Await(ctx context.Context) {
	select {
	case <-f.loaded:
	case <-ctx.Done():
	}
}

// Run follows the registry until ctx ends, and comes back to it when the stream breaks.
func (f *Follower) Run(ctx context.Context) error {
	const longest = 5 * time.Second
	wait := 50 * time.Millisecond
	for {
		got, err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if got {
			wait = 50 * time.Millisecond
		}
		if f.Ready() != nil {
			f.config.Log.Info("waiting for the registry's catalogue", "error", err, "retry_in", wait)
		} else {
			f.config.Log.Warn("the registry's catalogue stream broke; serving the last catalogue", "error", err, "retry_in", wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, longest)
	}
}

func (f *Follower) follow(ctx context.Context) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.config.Registry.WatchCatalog(ctx, &registryv1.WatchCatalogRequest{})
	if err != nil {
		return false, err
	}
	defer func() {
		if got {
			f.lose()
		}
	}()
	for {
		change, err := stream.Recv()
		if err != nil {
			return got, err
		}
		got = true // what comes first is all there is
		f.apply(change)
		f.lost.Store(nil)
	}
}

func (f *Follower) lose() {
	now := time.Now()
	f.lost.Store(&now)
}

func (f *Follower) apply(change *registryv1.WatchCatalogResponse) {
	before := f.current.Load()
	now := before.Apply(change)
	// The catalogue first: who waits for the first keys finds it there.
	f.current.Store(now)
	if f.config.Keys != nil {
		f.config.Keys(change.GetSnapshot(), change.GetKeys(), change.GetRemovedKeys())
	}
	select {
	case <-f.loaded:
	default:
		close(f.loaded)
	}
	if f.config.Changed != nil {
		f.config.Changed(before, now)
	}
}
