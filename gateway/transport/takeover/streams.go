package takeover

import (
	"context"
	"net/http"
	"sync"
)

// Streams are responses on connections that were taken over; the HTTP server knows of them no more, and its end does not
// wait for them. The zero value is ready.
type Streams struct {
	mu     sync.Mutex
	open   int
	closed chan struct{} // not nil once there are to be no more, closed when none is left
}

// Serve takes the connection of a request over and serves it in a goroutine of its own. It is false where that can't be:
// then serve is not called, and the request is still there to be answered.
func (s *Streams) Serve(w http.ResponseWriter, r *http.Request, serve func(*Response)) bool {
	s.mu.Lock()
	stopping := s.closed != nil
	if !stopping {
		s.open++
	}
	s.mu.Unlock()
	if stopping {
		return false
	}
	response, ok := Stream(w, r)
	if !ok {
		s.done()
		return false
	}
	go func() {
		defer s.done()
		defer response.Close()
		serve(response)
	}()
	return true
}

func (s *Streams) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; s.open == 0 && s.closed != nil {
		close(s.closed)
	}
}

// Shutdown takes no more connections over, and waits until the streams have ended, which is their servers' doing, or ctx
// has. It is called once.
func (s *Streams) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.closed = make(chan struct{})
	if s.open == 0 {
		close(s.closed)
	}
	s.mu.Unlock()
	select {
	case <-s.closed:
	case <-ctx.Done():
	}
}
