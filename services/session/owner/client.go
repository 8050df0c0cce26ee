package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"erlmcp.dev/services/session/store"
)

// Client is what a client says of itself in initialize.
type Client struct {
	// Version is the negotiated revision; empty until initialize came.
	Version string `json:"version"`
	// Capabilities and Info are JSON.
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	Info         json.RawMessage `json:"info,omitempty"`
}

// stateClient names what a client told after its session was opened, in the session's record.
const stateClient = "client"

// clientOf reads a record: what came later counts, else what the session was opened with.
func clientOf(r store.Record) *Client {
	c := &Client{r.Version, r.Capabilities, r.ClientInfo}
	if later := r.State[stateClient]; r.Version == "" && later != nil {
		_ = json.Unmarshal(later, c) // written by us
	}
	return c
}

// Told is a record with what its client told later in place.
func Told(r store.Record) store.Record {
	c := clientOf(r)
	r.Version, r.Capabilities, r.ClientInfo = c.Version, c.Capabilities, c.Info
	return r
}

// ErrInitialized: the session's initialize came before.
var ErrInitialized = errors.New("the session is initialized already")

// Initialize completes a session that was opened without a revision: ErrInitialized.
func (o *Owner) Initialize(ctx context.Context, id string, c Client) (Facts, error) {
	s, err := o.session(ctx, id)
	if err != nil {
		return Facts{}, err
	}
	if err := s.initialize(ctx, &c); err != nil {
		return Facts{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sessions[id] == s {
		o.endings.add(id) // gateways remember the facts as they were
	}
	return o.facts(s), nil
}

func (s *session) initialize(ctx context.Context, c *Client) error {
	s.touch()
	value, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("%w: what the client says of itself is not JSON", store.ErrInvalid)
	}
	if before := s.client.Load(); before.Version != "" || !s.client.CompareAndSwap(before, c) {
		return ErrInitialized
	}
	s.save(ctx, stateClient, value)
	return nil
}

// Post puts a message for the client on the standing stream once that has room: ErrStopped where the next owner is to be
// asked.
func (o *Owner) Post(ctx context.Context, id string, message []byte) error {
	s, err := o.session(ctx, id)
	if err != nil {
		return err
	}
	s.touch()
	if err := s.standing.room(ctx); err != nil {
		return err
	}
	if !s.say(message) {
		return ErrStopped
	}
	return nil
}
