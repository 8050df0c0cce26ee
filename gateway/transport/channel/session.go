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
	leave  func()             // ends it in good order, and waits until nothing more comes
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

// part ends the following of the standing stream, if there is one, when all is passed on that was sent.
func (s *session) part() {
	s.mu.Lock()
	leave := s.leave
	s.mu.Unlock()
	if leave != nil {
		leave()
	}
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

// follow makes a session this connection's, and passes on what comes on its standing stream, once hold is closed.
// It returns what is closed as soon as no other connection gets anything of the session.
func (c *connection) follow(ctx context.Context, token string, hold <-chan struct{}) (attached <-chan struct{}) {
	s := &standing{ctx: ctx, c: c, hold: hold, attached: make(chan struct{})}
	following, forget := context.WithCancel(ctx)
	leaving, leave := context.WithCancel(following)
	left := make(chan struct{})
	c.session.mu.Lock()
	c.session.token, c.session.forget = token, forget
	c.session.leave = func() { leave(); <-left }
	c.session.mu.Unlock()
	c.tasks.Go(func() {
		defer close(left)
		defer forget()
		c.listen(following, leaving, token, s)
	})
	return s.attached
}

// attachTime is how long a client that comes back to its session may have to wait for it.
const attachTime = 5 * time.Second

func await(ctx context.Context, attached <-chan struct{}) {
	select {
	case <-attached:
	case <-time.After(attachTime): // it will come later, and with it what was sent meanwhile
	case <-ctx.Done():
	}
}

// Waits between two tries to reach the standing stream.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

// listen passes on a session's standing stream until ctx, leaving or the session ends. The stream breaks when the session
// moves to another owner, and goes on there.
func (c *connection) listen(ctx, leaving context.Context, token string, to *standing) {
	wait := firstWait
	for leaving.Err() == nil {
		began := time.Now()
		s, err := c.server.Engine.Session(leaving, c.client, token)
		if err == nil {
			err = s.Attend(ctx, leaving, to)
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
		case <-leaving.Done():
		}
		wait = min(2*wait, lastWait)
	}
}

// standing takes what comes on the standing stream.
type standing struct {
	ctx      context.Context
	c        *connection
	hold     <-chan struct{}
	once     sync.Once
	attached chan struct{}
}

// Send implements engine.Stream.
func (s *standing) Send(_ string, message []byte) error {
	s.once.Do(func() { close(s.attached) })
	if len(message) == 0 {
		return nil
	}
	select {
	case <-s.hold:
	case <-s.ctx.Done():
		return s.ctx.Err()
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
