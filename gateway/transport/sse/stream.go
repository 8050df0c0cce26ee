package sse

import (
	"context"
	"net/http"
	"sync"
	"time"

	"erlmcp.dev/shared/sse"
)

// stream is a client's event stream. It implements engine.Stream.
type stream struct {
	handler *Handler
	w       http.ResponseWriter
	ctx     context.Context // ends when the client is gone, and with cancel
	cancel  context.CancelFunc

	mu     sync.Mutex
	ended  bool
	quiet  *time.Timer
	buffer []byte
}

func newStream(ctx context.Context, w http.ResponseWriter, h *Handler) *stream {
	ctx, cancel := context.WithCancel(ctx)
	return &stream{handler: h, w: w, ctx: ctx, cancel: cancel}
}

// open begins the response and tells where messages are sent to, and by what id the client comes back.
func (s *stream) open(endpoint, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	header := s.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.quiet = time.AfterFunc(s.handler.KeepAlive, s.comment)
	s.write(sse.AppendNamed(nil, "endpoint", id, []byte(endpoint)))
}

// end ends the stream: nothing is written afterwards.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.quiet.Stop()
	s.cancel()
}

// comment keeps a quiet stream alive.
func (s *stream) comment() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.write([]byte(":\n\n"))
	}
}

// write sends bytes at once; mu is held. A client that takes none for long counts as gone.
func (s *stream) write(b []byte) {
	limit := s.handler.WriteTimeout + time.Duration(len(b)>>16)*time.Second
	control := http.NewResponseController(s.w)
	_ = control.SetWriteDeadline(time.Now().Add(limit))
	if _, err := s.w.Write(b); err != nil {
		s.cancel()
		return
	}
	if err := control.Flush(); err != nil {
		s.cancel()
		return
	}
	s.quiet.Reset(s.handler.KeepAlive)
}

// keptBuffer is the largest buffer that is kept for the next event.
const keptBuffer = 64 << 10

// Send implements engine.Stream. The endpoint's id names the session, so that the others have none: what was sent and
// not read is lost.
func (s *stream) Send(_ string, message []byte) error {
	if len(message) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.ctx.Err() != nil {
		return context.Canceled
	}
	s.buffer = sse.AppendNamed(s.buffer[:0], "message", "", message)
	s.write(s.buffer)
	if cap(s.buffer) > keptBuffer {
		s.buffer = nil
	}
	s.handler.Count.Sent()
	return s.ctx.Err()
}
