// Package watch publishes the catalogue: a [Hub] follows the store, holds the newest version in memory, and tells any
// number of watchers what changed for them. It must not know how changes come about. Start at [Hub.Watch].
package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Config is what a Hub needs.
type Config struct {
	Store store.Follower
	// Poll is how often the store is looked at although it told of no change; 5 s when 0.
	Poll time.Duration
	// MessageSize is how large a message to watchers may get, in bytes, unless a single server is larger; 16 MiB when 0.
	MessageSize int
	Log         *slog.Logger
}

// Hub holds the newest catalogue. It goes on with the last one while the store is away.
type Hub struct {
	config Config
	wake   chan struct{} // of one place: the store has news
	loaded chan struct{} // closed once there is a catalogue
	done   chan struct{} // closed when Run ended

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed and replaced at each new version
}

// New makes a Hub; Run fills it.
func New(c Config) *Hub {
	if c.Poll <= 0 {
		c.Poll = 5 * time.Second
	}
	if c.MessageSize <= 0 {
		c.MessageSize = 16 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{config: c, wake: make(chan struct{}, 1), loaded: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}), state: newState()}
}

// Loaded is closed once there is a catalogue.
func (h *Hub) Loaded() <-chan struct{} { return h.loaded }

func (h *Hub) isLoaded() bool {
	select {
	case <-h.loaded:
		return true
	default:
		return false
	}
}

// Servers returns all servers, in no order, and a channel that is closed when the catalogue changed after that. They
// must not be changed.
func (h *Hub) Servers() (servers []*store.Server, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.state.servers {
		servers = append(servers, s.record)
	}
	return servers, h.changed
}

// Run follows the store until ctx ends. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	defer close(h.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { h.listen(ctx) })
	const shortest = 100 * time.Millisecond
	retry := shortest
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-timer.C:
		}
		if err := h.sync(ctx); err == nil {
			retry = shortest
			timer.Reset(h.config.Poll)
		} else if ctx.Err() == nil {
			h.config.Log.Warn("could not read the catalogue's changes; serving the last version", "error", err, "retry_in", retry)
			timer.Reset(retry)
			retry = min(2*retry, h.config.Poll)
		}
	}
}

// listen keeps listening for news of the store. While it can't, Run polls.
func (h *Hub) listen(ctx context.Context) {
	for {
		err := h.config.Store.Listen(ctx, func() {
			select {
			case h.wake <- struct{}{}:
			default: // it will look anyway
			}
		})
		if ctx.Err() != nil {
			return
		}
		h.config.Log.Warn("not told of changes of the catalogue for now; polling", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// syncTimeout bounds one look at the store, so that one that froze is told from a slow one.
const syncTimeout = 30 * time.Second

// sync brings the Hub to the store's version.
func (h *Hub) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	changes, err := h.config.Store.Since(ctx, h.state.version) // only sync writes the version
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isLoaded() && changes.Version == h.state.version {
		return nil
	}
	h.state.apply(changes)
	if !h.isLoaded() {
		close(h.loaded)
	}
	close(h.changed)
	h.changed = make(chan struct{})
	return nil
}

// ErrStopped: the Hub serves no longer.
var ErrStopped = errors.New("the registry stops")

// Watch sends the catalogue and then its changes until ctx ends, send fails, or the Hub stops (ErrStopped). send is
// called by one goroutine, and may take its time: what happens meanwhile is sent as one change afterwards, or as a
// new snapshot if it was very much, so that nothing queues up here. Messages must not be changed: watchers share
// what is in them.
//
// Versions grow from one snapshot or delta to the next. One that would be too large is split over several messages
// of the same version: the first says whether it is a snapshot, and has all but servers; the others are deltas with
// the rest of the servers. A snapshot of a lower version than the one before comes only after the database was put
// back to an earlier state.
func (h *Hub) Watch(ctx context.Context, send func(*registryv1.WatchCatalogResponse) error) error {
	var version uint64
	for first := true; ; {
		messages, now, changed := h.since(version, first)
		for _, m := range messages {
			if err := send(m); err != nil {
				return err
			}
		}
		if messages != nil {
			version, first = now, false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.done:
			return ErrStopped
		}
	}
}

// since returns the messages that lead from a version to the present one, nil where there is nothing to tell.
func (h *Hub) since(version uint64, first bool) (messages []*registryv1.WatchCatalogResponse, now uint64, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isLoaded() || !first && version == h.state.version {
		return nil, version, h.changed
	}
	return split(h.state.since(version, first), h.config.MessageSize), h.state.version, h.changed
}
