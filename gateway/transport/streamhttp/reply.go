package streamhttp

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
)

// reply writes what answers one HTTP request: one JSON object, or, from the first message that comes before the
// answer, an event stream. It implements engine.Stream.
type reply struct {
	w       http.ResponseWriter
	ctx     context.Context // the request's; ends too when the client is gone or not welcome any more, or the gateway drains
	cancel  context.CancelFunc
	events  bool // the client takes event streams
	by      credential
	version string

	handler *Handler
	began   time.Time

	mu      sync.Mutex
	started bool // the response is an event stream
	ended   bool
	timer   *time.Timer
	leave   func() // ends the looking at the credential; nil where the response is no event stream
	buffer  []byte
}

func (h *Handler) newReply(ctx context.Context, w http.ResponseWriter, events bool, by credential) *reply {
	ctx, cancel := context.WithCancel(ctx)
	return &reply{w: w, ctx: ctx, cancel: cancel, events: events, by: by, handler: h, began: time.Now()}
}

// deadline ends a client that takes no bytes. Each response needs its own: the connection keeps that of the one
// before, which would cut off an answer that comes later.
func (h *Handler) deadline(w http.ResponseWriter) *http.ResponseController {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(h.writeTimeout()))
	return control
}

func (h *Handler) writeTimeout() time.Duration {
	if h.WriteTimeout == 0 {
		return defaultWriteTimeout
	}
	return h.WriteTimeout
}

func (h *Handler) keepAlive() time.Duration {
	if h.KeepAlive == 0 {
		return 15 * time.Second
	}
	return h.KeepAlive
}

// stop ends the reply: nothing is written afterwards.
func (o *reply) stop() {
	o.mu.Lock()
	o.ended = true
	if o.timer != nil {
		o.timer.Stop()
	}
	leave := o.leave
	o.mu.Unlock()
	o.cancel()
	if leave != nil {
		leave()
	}
}

// start makes the response an event stream before there is an event.
func (o *reply) start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started || o.ended {
		return
	}
	o.open()
	o.flush([]byte(": stream\n\n"))
}

// refusable reports whether nothing was written yet, and sees to it that nothing will be, so that the request can
// be refused.
func (o *reply) refusable() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started {
		return false
	}
	o.ended = true
	return true
}

func (o *reply) open() {
	if o.started {
		return
	}
	o.started = true
	header := o.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no")
	o.w.WriteHeader(http.StatusOK)
	o.timer = time.AfterFunc(o.handler.keepAlive(), o.comment)
	o.leave = o.handler.Guard.Attend(o.ctx, o.by.bearer, o.by.principal, o.cancel)
}

// comment keeps a quiet stream alive.
func (o *reply) comment() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.flush([]byte(":\n\n"))
	}
}

// flush writes bytes to the client at once. A client that takes no bytes is ended by the write deadline.
func (o *reply) flush(b []byte) {
	control := o.handler.deadline(o.w)
	if _, err := o.w.Write(b); err != nil {
		o.cancel()
		return
	}
	if err := control.Flush(); err != nil {
		o.cancel()
		return
	}
	o.timer.Reset(o.handler.keepAlive())
}

// retry tells clients how many milliseconds to wait before they resume a broken stream.
const retry = "retry: 1000\n"

const defaultWriteTimeout = 30 * time.Second

// Send implements engine.Stream.
func (o *reply) Send(id string, message []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.ctx.Err() != nil {
		return context.Canceled
	}
	if !o.events {
		return nil // a client that takes only JSON gets the answer alone
	}
	o.open()
	o.buffer = o.buffer[:0]
	switch {
	case message != nil:
		o.handler.count().Sent()
		o.buffer = sse.AppendEvent(o.buffer, id, message)
	case o.version >= mcp.V2025_11_25:
		o.buffer = append(o.buffer, retry...)
		o.buffer = sse.AppendEvent(o.buffer, id, nil) // SEP-1699; older clients choke on empty data
	default:
		o.buffer = append(o.buffer, ":\n\n"...)
	}
	o.flush(o.buffer)
	return o.ctx.Err()
}

// finish writes the answer and with it ends the response.
func (o *reply) finish(r engine.Reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if r.Body != nil {
		o.handler.count().Sent()
	}
	if o.started {
		if r.Body != nil && o.ctx.Err() == nil {
			o.flush(sse.AppendEvent(o.buffer[:0], r.EventID, r.Message()))
		}
		return
	}
	if time.Since(o.began) > o.handler.writeTimeout()/2 { // the handler's deadline may be over
		o.handler.deadline(o.w)
	}
	if r.Body == nil {
		if r.Status == 0 { // cancelled: an empty stream, as there is no answer
			o.w.Header().Set("Content-Type", "text/event-stream")
			r.Status = http.StatusOK
		}
		o.w.WriteHeader(r.Status)
		return
	}
	size := 0
	for _, part := range r.Body {
		size += len(part)
	}
	header := o.w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(size)}
	if r.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.RetryAfter.Seconds()))))
	}
	o.w.WriteHeader(r.Status)
	for _, part := range r.Body {
		if _, err := o.w.Write(part); err != nil {
			return
		}
	}
}

var jsonType = []string{"application/json"}
