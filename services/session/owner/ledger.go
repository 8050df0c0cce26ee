package owner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// The ledger says which calls of a session are in flight, for the next owner to find should this one die. A call is
// entered when its client is told an id from which to resume (a call that answers sooner has no one who could come
// back for it), and struck out behind its answer in the event log. What the next owner finds entered it goes on with
// where the server tells it the rest of the answer; else it carries the call out again if that may be done twice; else it
// answers that the outcome is unknown.

// entry is one call in the ledger.
type entry struct {
	ID     json.RawMessage `json:"id"`
	Server string          `json:"server,omitempty"`
	Method string          `json:"method"`
	// Params are kept of calls that may be carried out again.
	Params     json.RawMessage `json:"params,omitempty"`
	Repeatable bool            `json:"repeatable,omitempty"`
	// Standing: all of it goes to the standing stream.
	Standing bool `json:"standing,omitempty"`
	// Place is where to go on with the call; nil where that can't be.
	Place *place `json:"place,omitempty"`
}

// stateCall begins the name of a ledger's entry in the session's state; the name of the call's stream follows.
const stateCall = "call/"

// maxKeptParams is how long params may be that are kept in the ledger; a call with longer ones is not repeated.
const maxKeptParams = 16 << 10

// enter enters a call in the ledger; call.mu is held.
func (s *session) enter(c *call) {
	e := entry{ID: c.id, Server: c.server, Method: c.method, Standing: c.standing}
	if c.at != nil && c.at.Position != "" {
		e.Place = c.at
	}
	if c.repeatable && len(c.params) <= maxKeptParams {
		e.Repeatable, e.Params = true, c.params
	}
	value, err := json.Marshal(e)
	if err == nil {
		s.save(s.ctx, stateCall+c.stream.name, value)
	}
}

// strike takes a call out of the ledger.
func (s *session) strike(c *call) {
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
			id: e.ID, server: e.Server, method: e.Method, params: e.Params, repeatable: e.Repeatable, standing: e.Standing,
			stream: newStream(stream), over: make(chan struct{}), logged: true, at: e.Place,
		}
		s.takingUp++
		s.start(c, func(ctx context.Context) { s.takeUpCall(ctx, c) })
	}
	s.record.State = nil
}

// takeUpCall ends a call that was in flight: with the answer that the log has, with what the server still tells of it,
// with that of a new try, or by saying that nobody knows.
func (s *session) takeUpCall(ctx context.Context, c *call) {
	defer s.tookUp()
	if c.standing {
		s.takeUpStanding(ctx, c)
		return
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
	switch {
	case errors.Is(err, answered):
		c.cancel(errCancelled) // nothing is to be added
		s.finish(ctx, c, upstream.Reply{})
	case err == nil && c.continuable() && s.goOn(ctx, c, &had):
	default:
		s.again(ctx, c)
	}
}

// takeUpStanding is takeUpCall of a call whose answer, if there is one, is among what was said.
func (s *session) takeUpStanding(ctx context.Context, c *call) {
	if s.saidAnswer(ctx, c.id) {
		c.cancel(errCancelled) // nothing is to be added
		s.finish(ctx, c, upstream.Reply{})
		return
	}
	s.again(ctx, c)
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

// again carries a call out again if that may be done twice, or says that nobody knows.
func (s *session) again(ctx context.Context, c *call) {
	if !c.repeatable {
		s.finish(ctx, c, failed(errOutcomeUnknown))
		return
	}
	s.owner.log.Info("a call is carried out again: its owner died", "session", s.record.ID, "server", c.server, "method", c.method)
	s.finish(ctx, c, s.carryOut(ctx, c))
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
