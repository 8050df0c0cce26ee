// Package live passes on what the metrics service takes, as it comes, to those who watch. Nothing waits for a watcher:
// one that is too slow misses events, and is told how many. It must not know what events mean. Start at [Hub].
package live

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Event is something that was taken.
type Event = metricsv1.WatchEventsResponse

// Wire reaches the other replicas of the service. What it is given may be lost.
type Wire interface {
	// Broadcast sends at most MaxPayload bytes to every replica, this one included.
	Broadcast(ctx context.Context, payload []byte) error
	// Receive passes on what is sent, until it fails or ctx ends.
	Receive(ctx context.Context, receive func(payload []byte)) error
}

// MaxPayload is the longest payload of a Wire, in bytes: Postgres bounds notifications at 8,000, of Base64 here.
const MaxPayload = 5900

// Hub passes events to watchers. Safe for concurrent use.
type Hub struct {
	wire Wire // nil: there is one replica
	log  *slog.Logger
	id   []byte
	out  chan []*Event

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	closed   bool
}

// watcher is one who watches.
type watcher struct {
	wanted func(*Event) bool
	events chan *Event
	missed uint64 // under Hub.mu
}

const (
	// maxWaiting is how many events wait for a watcher, and maxBatches how many batches for the other replicas.
	maxWaiting = 1024
	maxBatches = 256
	// beat is how often a quiet stream says that it stands.
	beat = 15 * time.Second
	// wireRetry is how long a replica does not hear the others once that broke.
	wireRetry = time.Second
)

// New makes a Hub. wire is nil where there are no other replicas.
func New(wire Wire, log *slog.Logger) *Hub {
	return &Hub{wire: wire, log: log, id: []byte(rand.Text()), out: make(chan []*Event, maxBatches), watchers: map[*watcher]struct{}{}}
}

// Publish passes events to the watchers of all replicas. It waits for none.
func (h *Hub) Publish(events []*Event) {
	h.deliver(events)
	if h.wire == nil || len(events) == 0 {
		return
	}
	select {
	case h.out <- events:
	default: // the other replicas' watchers miss them
	}
}

func (h *Hub) deliver(events []*Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		for _, e := range events {
			if !w.wanted(e) {
				continue
			}
			select {
			case w.events <- e:
			default:
				w.missed++
			}
		}
	}
}

// ErrClosed: the service stops; another replica can be watched.
var ErrClosed = errors.New("the service is stopping; watch again")

// Watch passes the events that are wanted to send, until ctx ends, send fails or the hub ends: ErrClosed.
func (h *Hub) Watch(ctx context.Context, wanted func(*Event) bool, send func(*Event) error) error {
	w := &watcher{wanted: wanted, events: make(chan *Event, maxWaiting)}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.watchers[w] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}()
	if err := send(&Event{}); err != nil {
		return err
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		var err error
		select {
		case e, open := <-w.events:
			if !open {
				return ErrClosed
			}
			err = send(e)
		case <-tick.C:
			err = send(&Event{})
		case <-ctx.Done():
			return nil
		}
		if missed := h.missed(w); err == nil && missed > 0 {
			err = send(&Event{Event: &metricsv1.WatchEventsResponse_Missed{Missed: missed}})
		}
		if err != nil {
			return err
		}
	}
}

// missed is how many events a watcher missed since it was asked before.
func (h *Hub) missed(w *watcher) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := w.missed
	w.missed = 0
	return n
}

// Run joins the hub with those of the other replicas until ctx ends; then it ends who watches.
func (h *Hub) Run(ctx context.Context) {
	var running sync.WaitGroup
	if h.wire != nil {
		running.Go(func() { h.broadcast(ctx) })
		running.Go(func() { h.receive(ctx) })
	}
	<-ctx.Done()
	running.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		close(w.events)
		delete(h.watchers, w)
	}
}

func (h *Hub) broadcast(ctx context.Context) {
	for {
		select {
		case events := <-h.out:
			for len(events) > 0 && ctx.Err() == nil {
				var payload []byte
				payload, events = h.pack(events)
				if err := h.wire.Broadcast(ctx, payload); err != nil && ctx.Err() == nil {
					h.log.Info("events could not be shown to those who watch other replicas", "error", err)
					break
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// pack writes as many events as a payload holds, and returns the others. One that is too long alone is left out.
func (h *Hub) pack(events []*Event) (payload []byte, rest []*Event) {
	var out bytes.Buffer
	out.Write(h.id)
	for i, e := range events {
		before := out.Len()
		if _, err := protodelim.MarshalTo(&out, e); err != nil || out.Len() > MaxPayload {
			out.Truncate(before)
			if before > len(h.id) {
				return out.Bytes(), events[i:]
			}
		}
	}
	return out.Bytes(), nil
}

func (h *Hub) receive(ctx context.Context) {
	for ctx.Err() == nil {
		err := h.wire.Receive(ctx, func(payload []byte) {
			if rest, ours := bytes.CutPrefix(payload, h.id); !ours && len(rest) > len(h.id) {
				h.deliver(unpack(rest[len(h.id):]))
			}
		})
		if err != nil && ctx.Err() == nil {
			h.log.Info("what other replicas take is not heard for a moment", "error", err)
		}
		select {
		case <-time.After(wireRetry):
		case <-ctx.Done():
		}
	}
}

// unpack reads events of another replica. What can't be read, be it of another release, is left out.
func unpack(data []byte) (events []*Event) {
	r := bytes.NewReader(data)
	for {
		e := &Event{}
		if protodelim.UnmarshalFrom(r, e) != nil {
			return events
		}
		events = append(events, e)
	}
}
