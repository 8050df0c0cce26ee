package owner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/jsonrpc"
)

// Event is one message on its way to the client.
type Event struct {
	// ID to resume behind it: "<stream>:<number>"; empty where the stream can't be resumed.
	ID string
	// Message is JSON-RPC; nil in an event that only tells an id.
	Message []byte
	// Answered, without a message, tells of a request with StreamStanding that it was answered, or cancelled.
	Answered *Answered
}

// Answered is how a request was answered.
type Answered struct {
	// Failed: with an error, or a result that tells of one.
	Failed bool
}

func (s *stream) exported(e event) Event {
	if e.seq == 0 {
		return Event{Message: e.message}
	}
	return Event{ID: s.id(e.seq), Message: e.message}
}

func (s *stream) id(seq uint64) string { return s.name + ":" + strconv.FormatUint(seq, 10) }

// ErrDisplaced: another reader took the stream over.
var ErrDisplaced = errors.New("another reader took the stream over")

// ErrGone: events behind the named one are no longer kept.
var ErrGone = errors.New("the events behind this one are no longer kept")

// ErrEventID: no event ever has such an id.
var ErrEventID = errors.New("malformed event id")

func parseEventID(id string) (name string, seq uint64, err error) {
	name, number, ok := strings.Cut(id, ":")
	seq, err = strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || name == "" || len(name) > 32 {
		return "", 0, ErrEventID
	}
	return name, seq, nil
}

// append writes a message to the session's log. Without the log the message goes out all the same, only that nobody can
// come back for it; but where the session is no longer this process's, ours is false, and nobody hears the message.
func (s *session) append(name string, message []byte) (e event, ours bool) {
	e.message = message
	err := s.owner.write(s.ctx, func(ctx context.Context) (err error) {
		e.seq, err = s.owner.config.Store.Append(ctx, s.record.ID, s.owner.config.Node.Name, s.epoch, name, message)
		return err
	})
	switch {
	case err == nil:
	case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNotFound):
		s.owner.moved(s)
		return e, false
	case s.ctx.Err() != nil:
		return e, false
	default:
		s.owner.log.Warn("an event could not be logged; it can't be resumed", "session", s.record.ID, "error", err)
	}
	return e, true
}

// standingEmitter puts messages on the session's standing stream.
type standingEmitter struct{ session *session }

func (t standingEmitter) emit(message []byte, droppable bool) {
	if droppable && (t.full() || len(message) > maxStreamBytes) {
		return
	}
	t.session.say(message)
}

func (t standingEmitter) full() bool { return t.session.standing.full() }

// say puts a message on the standing stream. It is false where the session is no longer this process's. One message
// follows the other, for their numbers must grow along the stream.
func (s *session) say(message []byte) bool {
	s.saying.Lock()
	defer s.saying.Unlock()
	e, ours := s.append(standingName, message)
	if ours {
		s.standing.put(e)
	}
	return ours
}

// callEmitter puts messages on the stream of a call. The first one makes the stream one that can be resumed.
type callEmitter struct {
	session *session
	call    *call
}

func (t callEmitter) emit(message []byte, droppable bool) {
	if droppable && (t.full() || len(message) > maxStreamBytes) {
		return
	}
	if !t.call.standing {
		t.session.openLog(t.call)
	}
	t.session.put(t.call, message)
}

func (t callEmitter) full() bool {
	if t.call.standing {
		return t.session.standing.full()
	}
	return t.call.stream.full()
}

// openLog starts logging a call's events: its client is told an id from which to resume. A call that answers at
// once never gets here, and costs the store nothing. Where the ledger can't have the call, the next event tries again.
func (s *session) openLog(c *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logged || c.ended || c.stream.name == "" {
		return
	}
	if c.logged = s.enter(c); !c.logged || c.standing {
		return // the standing stream is logged anyway
	}
	if e, ours := s.append(c.stream.name, nil); ours && e.seq != 0 {
		c.stream.put(e)
	}
}

// put appends a message to a call's stream, logged if its log is open. It is false where the session is no longer this
// process's.
func (s *session) put(c *call, message []byte) bool {
	if c.standing {
		return s.say(message)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ours := event{message: message}, true
	if c.logged {
		e, ours = s.append(c.stream.name, message)
	} else {
		c.unlogged = true
	}
	c.stream.put(e)
	return ours
}

// Listening says what of a session's streams is listened to.
type Listening struct {
	// After is the event behind which it begins, on that one's stream; empty for the standing stream.
	After string
	// Unnamed says that the reader can't name an event: the standing stream begins where its reader before left, and with
	// an event in any case.
	Unnamed bool
	// Reader is a name of the reader's, for Leave; empty for none.
	Reader string
	// Request is the one whose stream it is, where who listens has it still: a call that was taken up without its params
	// is carried out with these. Nil for none.
	Request *jsonrpc.Message
}

// listen passes on the standing stream, or the rest of a stream behind an event.
func (s *session) listen(ctx context.Context, to Listening, send func(Event) error) error {
	s.touch()
	defer s.touch()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if to.After == "" {
		return s.whole(s.stand(ctx, 0, to, send))
	}
	name, seq, err := parseEventID(to.After)
	if err != nil {
		return err
	}
	if name == standingName {
		return s.whole(s.stand(ctx, seq, to, send))
	}
	s.mu.Lock()
	st := s.streams[name]
	if to.Request != nil {
		if c := s.calls[string(to.Request.ID)]; c != nil && c.stream == st {
			c.bring(to.Request)
		}
	}
	s.mu.Unlock()
	var live *reader
	if st != nil {
		live = st.attach() // before the log is read, so that nothing falls between
		defer live.detach()
	}
	if seq, err = s.replay(ctx, name, seq, send); err != nil || live == nil {
		return s.whole(err)
	}
	_, err = s.follow(ctx, st, live, seq, send)
	return s.whole(err)
}

// follow passes a stream's events to send until it ends, ctx ends or another reader takes over, and returns the number
// of the last one. Events up to seq were had before. ErrDisplaced.
func (s *session) follow(ctx context.Context, st *stream, r *reader, seq uint64, send func(Event) error) (uint64, error) {
	defer r.detach()
	for {
		events := r.next(ctx)
		if len(events) == 0 {
			if r.displaced() {
				return seq, ErrDisplaced
			}
			return seq, nil
		}
		for _, e := range events {
			if e.seq != 0 && e.seq <= seq {
				continue
			}
			if err := send(st.exported(e)); err != nil {
				return seq, err
			}
			seq = max(seq, e.seq)
		}
	}
}

// whole is how a stream ended: ErrStopped where it was not to end, but goes on at the session's next owner.
func (s *session) whole(err error) error {
	if (err == nil || errors.Is(err, context.Canceled)) && errors.Is(context.Cause(s.ctx), ErrStopped) {
		return ErrStopped
	}
	return err
}

// replay sends what the log has of a stream behind seq, and returns the last one's number.
func (s *session) replay(ctx context.Context, name string, seq uint64, send func(Event) error) (uint64, error) {
	const page = 100
	for {
		logged, err := s.owner.config.Store.Read(ctx, s.record.ID, name, seq, page)
		if errors.Is(err, store.ErrGone) {
			return seq, ErrGone
		}
		if err != nil {
			return seq, fmt.Errorf("reading the event log: %w", err)
		}
		for _, l := range logged.Events {
			seq = l.Seq
			if len(l.Message) == 0 {
				continue
			}
			if err := send(Event{ID: name + ":" + strconv.FormatUint(seq, 10), Message: l.Message}); err != nil {
				return seq, err
			}
		}
		if len(logged.Events) < page {
			return seq, nil
		}
	}
}
