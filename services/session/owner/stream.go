package owner

import (
	"context"
	"sync"
)

// Bounds of what one stream keeps for a reader that lags. Beyond them notifications are dropped and servers' requests
// refused, for servers may send any number of them; a response, or what withdraws a request, always fits.
const (
	maxStreamEvents = 1024
	maxStreamBytes  = 4 << 20
)

// stream is the way of messages to a client: those that belong to one request, or the standing one. It has one
// reader at a time; the newest displaces the one before, whose connection may be dead without anyone having
// noticed. Events stay until a reader has passed them on.
type stream struct {
	name string // in event ids

	mu     sync.Mutex
	events []event
	bytes  int
	ended  bool
	reader *reader
	wake   chan struct{} // closed and replaced when something changes
}

type event struct {
	seq     uint64 // in the log; 0 where it is not logged
	message []byte // nil: only tells where to resume
}

func newStream(name string) *stream {
	return &stream{name: name, wake: make(chan struct{})}
}

// full reports whether messages that can be missed should be dropped.
func (s *stream) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crowded()
}

// crowded is full with mu held.
func (s *stream) crowded() bool {
	return len(s.events) >= maxStreamEvents || s.bytes >= maxStreamBytes
}

// room waits until the stream is not full. It fails when ctx or the stream ends before.
func (s *stream) room(ctx context.Context) error {
	for {
		s.mu.Lock()
		ended, crowded, wake := s.ended, s.crowded(), s.wake
		s.mu.Unlock()
		switch {
		case ended:
			return ErrStopped
		case !crowded:
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put appends an event.
func (s *stream) put(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.events = append(s.events, e)
	s.bytes += len(e.message)
	s.signal()
}

// end says that nothing follows.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.signal()
	}
}

// signal wakes the reader; mu is held.
func (s *stream) signal() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// attach makes a reader and displaces the one before.
func (s *stream) attach() *reader { return s.attachAs("") }

// attachAs is attach with a name for leave; empty for none.
func (s *stream) attachAs(name string) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &reader{stream: s, name: name, tookOver: s.reader != nil}
	s.reader = r
	s.signal()
	return r
}

// leave has the reader of a name be passed nothing more, if it is still the one who reads.
func (s *stream) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil && s.reader.name == name {
		s.reader.leaving = true
		s.signal()
	}
}

// size is how many bytes wait for a reader.
func (s *stream) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// reading reports whether someone reads.
func (s *stream) reading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reader != nil
}

// reader passes a stream's events on.
type reader struct {
	stream   *stream
	name     string
	had      int  // events handed out by the last next
	tookOver bool // another reader was displaced
	leaving  bool // it wants nothing more
}

// next waits for events and returns them, none once the stream ended, the reader was displaced or leaves, or ctx ended.
// Calling it says that those of the call before were passed on.
func (r *reader) next(ctx context.Context) []event {
	s := r.stream
	for {
		s.mu.Lock()
		if s.reader != r {
			s.mu.Unlock()
			return nil
		}
		full := r.had > 0 && s.crowded()
		for ; r.had > 0; r.had-- {
			s.bytes -= len(s.events[0].message)
			s.events[0] = event{}
			s.events = s.events[1:]
		}
		if full {
			s.signal() // there is room again
		}
		if r.leaving {
			s.mu.Unlock()
			return nil
		}
		if len(s.events) > 0 || s.ended {
			events := append([]event(nil), s.events...)
			r.had = len(events)
			s.mu.Unlock()
			return events
		}
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// first is the number of the first event that waits and is logged; 0 for none.
func (r *reader) first() uint64 {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	for _, e := range r.stream.events {
		if e.seq != 0 {
			return e.seq
		}
	}
	return 0
}

// displaced reports whether another reader took over.
func (r *reader) displaced() bool {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	return r.stream.reader != nil && r.stream.reader != r
}

// detach ends the reader.
func (r *reader) detach() {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	if r.stream.reader == r {
		r.stream.reader = nil
	}
}
