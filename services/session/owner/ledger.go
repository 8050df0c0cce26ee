package owner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// The ledger says which calls of a session are in flight, for the next owner to find should this one die. A call is
// entered before its client is told an id from which to resume (a call that answers sooner has no one who could come
// back for it), and struck out behind its answer in the event log; one that can't be entered gets no ids. What the next
// owner finds entered it goes on with where the server tells it the rest of the answer; else it carries the call out
// again if that may be done twice; else it answers that the outcome is unknown.

// entry is one call in the ledger.
type entry struct {
	ID     json.RawMessage `json:"id"`
	Server string          `json:"server,omitempty"`
	Method string          `json:"method"`
	// Params are kept of calls that may be carried out again.
	Params     json.RawMessage `json:"params,omitempty"`
	Repeatable bool            `json:"repeatable,omitempty"`
	// Bare, in place of the two: the call may be carried out again by who is brought its params, which were too long to
	// be kept.
	Bare bool `json:"bare,omitempty"`
	// Standing: all of it goes to the standing stream.
	Standing bool `json:"standing,omitempty"`
	// Place is where to go on with the call; nil where that can't be.
	Place *place `json:"place,omitempty"`
}

// stateCall begins the name of a ledger's entry in the session's state; the name of the call's stream follows.
const stateCall = "call/"

// Bounds of the params that are kept in the ledger: of one call, and of all calls of a session, whose state has other
// things to hold too.
const (
	maxKeptParams    = 16 << 10
	maxKeptParamsAll = 128 << 10
)

// enter enters a call in the ledger, or what changed of it; call.mu is held. It is false where the call may not be there.
func (s *session) enter(c *call) bool {
	e := entry{ID: c.id, Server: c.server, Method: c.method, Standing: c.standing}
	if c.at != nil && c.at.Position != "" && !c.unlogged {
		e.Place = c.at
	}
	switch {
	case !c.repeatable:
	case s.keepParams(c):
		e.Repeatable, e.Params = true, c.params
	default:
		e.Bare = true
	}
	c.tried = true
	err := s.write(c, e)
	if errors.Is(err, store.ErrTooLarge) && e.Repeatable {
		e.Repeatable, e.Params, e.Bare = false, nil, true
		err = s.write(c, e)
	}
	if err != nil && s.ctx.Err() == nil {
		s.owner.log.Warn("a call could not be entered in the ledger; its stream can't be resumed", "session", s.record.ID, "error", err)
	}
	return err == nil
}

func (s *session) write(c *call, e entry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.try(s.ctx, store.Changes{Set: map[string][]byte{stateCall + c.stream.name: value}})
}

// keepParams reports whether a call's params have room in the ledger, and takes that; call.mu is held.
func (s *session) keepParams(c *call) bool {
	size := int64(len(c.params))
	switch {
	case c.kept:
	case size > maxKeptParams:
		return false
	case s.keptParams.Add(size) > maxKeptParamsAll:
		s.keptParams.Add(-size)
		return false
	}
	c.kept = true
	return true
}

// strike takes a call out of the ledger.
func (s *session) strike(c *call) {
	if c.kept {
		s.keptParams.Add(-int64(len(c.params)))
	}
	s.change(s.ctx, store.Changes{Remove: []string{stateCall + c.stream.name}})
}

// takeUpCalls goes on with the calls that were in flight when the owner before died.
func (s *session) takeUpCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range s.record.State {
		stream, ok := strings.CutPrefix(name, stateCall)
		var e entry
		if !ok || json.Unmarshal(value, &e) != nil {
			continue
		}
		c := &call{
			id: e.ID, server: e.Server, method: e.Method, params: e.Params, repeatable: e.Repeatable || e.Bare, standing: e.Standing,
			stream: newStream(stream), over: make(chan struct{}), logged: true, tried: true, at: e.Place,
		}
		if e.Bare {
			c.brought = make(chan json.RawMessage, 1)
		} else {
			c.kept = true
			s.keptParams.Add(int64(len(c.params)))
		}
		s.takingUp++
		s.start(c, func(ctx context.Context) {
			if !s.takeUpCall(ctx, c) {
				s.again(ctx, c)
			}
		})
	}
	s.record.State = nil
}

// takeUpCall ends a call that was in flight with the answer that the log has, or with what the server still tells of it. It
// is false where there is neither.
func (s *session) takeUpCall(ctx context.Context, c *call) bool {
	defer s.tookUp()
	if c.standing {
		return s.takeUpStanding(ctx, c)
	}
	answered := errors.New("answered")
	had := again{heard: heard{s, callEmitter{s, c}}, told: map[string]int{}, asked: map[string][]json.RawMessage{}}
	_, err := s.replay(ctx, c.stream.name, 0, func(e Event) error {
		if jsonrpc.Get(e.Message, "method") != nil {
			had.add(e.Message)
			return nil
		}
		_, seq, err := parseEventID(e.ID)
		if err == nil {
			c.stream.put(event{seq: seq, message: e.Message}) // for whoever sent the request again
		}
		return answered
	})
	if errors.Is(err, answered) {
		c.cancel(errCancelled) // nothing is to be added
		s.finish(ctx, c, upstream.Reply{})
		return true
	}
	return err == nil && c.continuable() && s.goOn(ctx, c, &had)
}

// takeUpStanding is takeUpCall of a call whose answer, if there is one, is among what was said.
func (s *session) takeUpStanding(ctx context.Context, c *call) bool {
	said := s.saidAnswer(ctx, c.id)
	if said {
		c.cancel(errCancelled) // nothing is to be added
		s.finish(ctx, c, upstream.Reply{})
	}
	return said
}

// saidAnswer reports whether the standing stream's log has the answer to a request.
func (s *session) saidAnswer(ctx context.Context, id json.RawMessage) bool {
	found := errors.New("found")
	_, err := s.replay(ctx, standingName, 0, func(e Event) error {
		if m, err := jsonrpc.Parse(e.Message); err == nil && m.IsResponse() && bytes.Equal(m.ID, id) {
			return found
		}
		return nil
	})
	return errors.Is(err, found)
}

// again ends a call that was in flight with a new try, if it may be carried out twice, or by saying that nobody knows what
// became of it.
func (s *session) again(ctx context.Context, c *call) {
	if !c.repeatable || c.brought != nil && !s.complete(ctx, c) {
		s.finish(ctx, c, failed(errOutcomeUnknown))
		return
	}
	s.owner.log.InfoContext(ctx, "a call is carried out again: its owner died", "session", s.record.ID, "server", c.server, "method", c.method)
	s.finish(ctx, c, s.carryOut(ctx, c))
}

// complete waits for the params of a call whose entry has none, and reports whether it may be carried out with them. The
// gateway that waits for the answer brings them, once it knows as well as we do that the owner before is gone: its
// evidence comes within a lease, and so does its look-up.
func (s *session) complete(ctx context.Context, c *call) bool {
	late := time.NewTimer(2 * s.owner.config.Lease)
	defer late.Stop()
	select {
	case c.params = <-c.brought:
		return s.repeatable(c)
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// bring completes a call that was taken up without its params by the request that it is of.
func (c *call) bring(m *jsonrpc.Message) {
	if m.Method != c.method || !bytes.Equal(m.ID, c.id) {
		return
	}
	select {
	case c.brought <- m.Params:
	default: // it has them
	}
}

// errOutcomeUnknown answers a call that was lost with its owner.
var errOutcomeUnknown = upstream.Lost("the call was lost with the process that carried it out; whether it was done is unknown")

// repeatable reports whether a call may be begun twice: it may be carried out twice, or its key prevents that.
func (s *session) repeatable(c *call) bool {
	if c.server == "" || jsonrpc.Get(c.params, "_meta", mcp.MetaIdempotencyKey) != nil {
		return true
	}
	return s.owner.config.Catalog.Current().Repeatable(c.server, c.method, c.params)
}
