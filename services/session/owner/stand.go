package owner

import (
	"context"
	"errors"
	"strconv"

	"erlmcp.dev/services/session/store"
)

// The standing stream outlives its owner. What is said on it is logged; and each reader is told a position before
// anything else, from which its gateway goes on at the next owner. A client that can name an event comes back with that;
// where it can't (TCP, WebSocket, HTTP+SSE), the session remembers how far the last reader came.

// stand passes on the standing stream: behind the event numbered after if the reader names one, else what nobody read,
// and what follows.
func (s *session) stand(ctx context.Context, after uint64, to Listening, send func(Event) error) error {
	named := to.After != ""
	r := s.standing.attachAs(to.Reader)
	defer r.detach()
	s.hearOn()
	if !named && r.tookOver {
		s.fallBackAll() // the client has a new connection, and perhaps nobody noticed the end of the old one
	}
	had, behind := after, named // behind says that the log is read first
	if !named {
		next := s.leftBefore()
		behind = next != 0
		if !behind {
			next = s.position(r)
		}
		if next != 0 || to.Unnamed {
			if err := send(s.standing.place(next)); err != nil {
				return err
			}
		}
		had = max(next, 1) - 1
	}
	if behind {
		var err error
		if had, err = s.missed(ctx, r, had, named, send); err != nil {
			return err
		}
	}
	s.cameBack()
	had, err := s.follow(ctx, s.standing, r, had, send)
	if to.Unnamed {
		s.left(had)
	}
	return err
}

// missed passes on what the log of the standing stream has behind a number, and returns the last one's.
func (s *session) missed(ctx context.Context, r *reader, after uint64, named bool, send func(Event) error) (uint64, error) {
	had, err := s.replay(ctx, standingName, after, send)
	switch {
	case errors.Is(err, store.ErrGone) && !named:
		s.owner.log.WarnContext(ctx, "messages for a client that came back are no longer kept", "session", s.record.ID)
		return had, nil
	case err != nil || !named || had != after:
		return had, err
	}
	// A new position says that the way is good, though nothing was said.
	if next := s.position(r); next > 0 && next-1 > had {
		return next - 1, send(s.standing.place(next))
	}
	return had, nil
}

// position is the first number that a reader may not have who has nothing of what waits here; 0 where nobody knows, for
// want of the log.
func (s *session) position(r *reader) uint64 {
	s.saying.Lock()
	defer s.saying.Unlock()
	if first := r.first(); first != 0 {
		return first
	}
	if e, _ := s.append(standingName, nil); e.seq != 0 {
		return e.seq + 1
	}
	return 0
}

// place is an event that says nothing but from where to come back for what is numbered next, and what follows.
func (s *stream) place(next uint64) Event {
	if next == 0 {
		return Event{}
	}
	return Event{ID: s.id(next - 1)}
}

// leftBefore is the first number that the reader before has not, which can't say so itself; 0 where none left.
func (s *session) leftBefore() uint64 {
	s.leaving.Lock()
	defer s.leaving.Unlock()
	return s.leftAt
}

// left remembers how far a reader came, unless there is another one.
func (s *session) left(seq uint64) {
	s.leaving.Lock()
	defer s.leaving.Unlock()
	if s.ctx.Err() != nil || s.standing.reading() {
		return
	}
	s.leftAt = seq + 1
	s.save(s.ctx, stateLeft, strconv.AppendUint(nil, s.leftAt, 10))
}

// cameBack forgets what left remembers.
func (s *session) cameBack() {
	s.leaving.Lock()
	defer s.leaving.Unlock()
	if s.leftAt == 0 {
		return
	}
	s.leftAt = 0
	s.change(s.ctx, store.Changes{Remove: []string{stateLeft}})
}
