package channel

import (
	"context"
	"errors"
	"sync"
	"time"

	"erlmcp.dev/gateway/engine"
)

// session is the legacy session of a connection, if there is one.
type session struct {
	mu     sync.Mutex
	token  string
	forget context.CancelFunc // ends the following of its standing stream
}

func (s *session) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// end returns the token one last time.
func (s *session) end() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := s.token
	s.token = ""
	return token
}

// lost forgets a session that ended elsewhere.
func (s *session) lost(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
		s.forget()
	}
}

// follow makes a session this connection's, and passes on what comes on its standing stream.
func (c *connection) follow(ctx context.Context, token string) {
	following, forget := context.WithCancel(ctx)
	c.session.mu.Lock()
	c.session.token, c.session.forget = token, forget
	c.session.mu.Unlock()
	c.tasks.Go(func() {
		defer forget()
		c.listen(following, token)
	})
}

// Waits between two tries to reach the standing stream.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

// listen passes on a session's standing stream until ctx or the session ends. The stream breaks when the session
// moves to another owner, and goes on there.
func (c *connection) listen(ctx context.Context, token string) {
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		s, err := c.server.Engine.Session(ctx, c.client, token)
		if err == nil {
			err = s.Listen(ctx, "", standing{ctx, c})
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, engine.ErrNoSession):
			c.session.lost(token)
			return
		case errors.Is(err, engine.ErrDisplaced):
			c.session.lost(token) // it is another connection's now: not this one's to end
			c.end(Displaced)
			return
		}
		if time.Since(began) > lastWait {
			wait = firstWait
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, lastWait)
	}
}

// standing takes what comes on the standing stream.
type standing struct {
	ctx context.Context
	c   *connection
}

// Send implements engine.Stream.
func (s standing) Send(_ string, message []byte) error {
	if message == nil {
		return nil
	}
	return s.c.send(s.ctx, message)
}

// closeTime is how long the end of a session may take.
const closeTime = 5 * time.Second

func (c *connection) closeSession(token string) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	s, err := c.server.Engine.Session(ctx, c.client, token)
	if err == nil {
		err = s.Close(ctx)
	}
	if err != nil && !errors.Is(err, engine.ErrNoSession) {
		c.server.Log.Info("a session could not be ended with its connection; it ends when it was idle for long", "error", err)
	}
}
