// Package sse is the HTTP+SSE transport of revision 2024-11-05, which newer ones deprecate: a client opens an event
// stream, is told there where to send its messages, and gets all answers on the stream. It knows the legacy era
// only, but any revision of it.
//
// A message may come to another gateway than the one that holds the stream. So the session is opened with the
// stream, before initialize; whoever takes a message hands it to the session's owner, or puts there what comes of it;
// and from there it comes on the session's standing stream, which the gateway with the client's stream follows. A
// message is accepted (202) once the owner has it, so that a gateway that dies later takes nothing with it. Start at
// [Handler.Stream] and [Handler.Message].
package sse

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/takeover"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/telemetry"
)

// Handler serves streams and messages.
type Handler struct {
	Engine *engine.Engine
	Guard  *guard.Guard
	// KeepAlive is how often a quiet stream sends a comment; 15 s when 0.
	KeepAlive time.Duration
	// WriteTimeout is how long a client may take no bytes before it counts as gone; 30 s when 0.
	WriteTimeout time.Duration
	// Draining ends when the gateway begins to stop.
	Draining context.Context
	// ResumeTime is how long a session waits for its client to come back once its stream broke; 30 s when 0.
	ResumeTime time.Duration
	// MaxRequests is how many requests of all clients are carried out at once; 4,096 when 0.
	MaxRequests int
	// Count counts streams and messages. Optional.
	Count transport.Counter
	Log   *slog.Logger

	open    atomic.Int64
	streams takeover.Streams
	start   sync.Once
	ctx     context.Context // ends requests that Shutdown does not wait for
	cancel  context.CancelFunc
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed while no request runs
	closed  bool
	left    map[*time.Timer]struct{} // sessions whose client may come back
}

func (h *Handler) init() {
	h.start.Do(func() {
		h.ctx, h.cancel = context.WithCancel(context.Background())
		h.idle = make(chan struct{})
		close(h.idle)
		if h.KeepAlive == 0 {
			h.KeepAlive = 15 * time.Second
		}
		if h.WriteTimeout == 0 {
			h.WriteTimeout = 30 * time.Second
		}
		if h.ResumeTime == 0 {
			h.ResumeTime = 30 * time.Second
		}
		h.left = map[*time.Timer]struct{}{}
		if h.MaxRequests == 0 {
			h.MaxRequests = 4096
		}
		if h.Draining == nil {
			h.Draining = context.Background()
		}
		if h.Count == nil {
			h.Count = transport.Uncounted{}
		}
		if h.Log == nil {
			h.Log = slog.New(slog.DiscardHandler)
		}
	})
}

// Connections is how many streams are open.
func (h *Handler) Connections() int { return int(h.open.Load()) }

// Shutdown waits until the requests that were taken are carried out, and ends those that are left when ctx ends. Draining
// must have ended before.
func (h *Handler) Shutdown(ctx context.Context) {
	h.init()
	h.mu.Lock()
	h.closed = true
	for timer := range h.left { // their clients may come back at another gateway
		timer.Stop()
	}
	h.mu.Unlock()
	select {
	case <-h.quiet():
	case <-ctx.Done():
	}
	h.cancel()
	<-h.quiet()
	h.streams.Shutdown(ctx)
}

// quiet is closed once no request runs.
func (h *Handler) quiet() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.idle
}

// run carries out a request in the background. It is false where there is no room for it.
func (h *Handler) run(request func(ctx context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.running >= h.MaxRequests {
		return false
	}
	if h.running == 0 {
		h.idle = make(chan struct{})
	}
	h.running++
	go func() {
		ctx, cancel := context.WithCancel(h.ctx)
		request(ctx)
		cancel()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.running--; h.running == 0 {
			close(h.idle)
		}
	}()
	return true
}

// Stream serves GET /sse and /sse/{view}; mount it with the path value "view".
func (h *Handler) Stream(w http.ResponseWriter, r *http.Request) {
	h.init()
	client, ok := h.admit(w, r)
	if !ok || !h.Guard.Enter(w, client.Principal) {
		return
	}
	taken := false
	defer func() {
		if !taken {
			h.Guard.Leave(client.Principal)
		}
	}()
	if h.Draining.Err() != nil {
		unavailable(w, "this gateway is stopping; connect anew")
		return
	}
	session, ok := h.session(w, r, client)
	if !ok {
		return
	}
	bearer, _ := access.Bearer(r.Header)
	taken = h.streams.Serve(w, r, func(response *takeover.Response) {
		defer h.Guard.Leave(client.Principal)
		h.serve(response.Context(), response, client, session.Token(), bearer)
	})
	if !taken {
		h.serve(r.Context(), w, client, session.Token(), bearer)
	}
}

// serve passes a session's standing stream on until the client is gone or not welcome any more, the session ended or the
// gateway has drained.
func (h *Handler) serve(ctx context.Context, w http.ResponseWriter, client engine.Client, token, bearer string) {
	h.open.Add(1)
	defer h.open.Add(-1)
	h.Count.Connected()
	endpoint := url.URL{Path: "/messages", RawQuery: url.Values{parameter: {token}}.Encode()}
	if client.View != "" {
		endpoint.Path += "/" + client.View
	}
	s := newStream(ctx, w, h)
	s.open(endpoint.String(), token)
	leave := h.Guard.Attend(s.ctx, bearer, client.Principal, s.cancel)
	h.follow(s, client, token)
	s.end()
	leave()
	h.leave(client, token)
}

// session is the one that the client comes back to, or a new one. Where ok is false the answer was written. A browser's
// EventSource that lost its stream asks by itself, with the id of the event that came; it can't be told that the
// session is gone but by a new one.
func (h *Handler) session(w http.ResponseWriter, r *http.Request, c engine.Client) (s *engine.Session, ok bool) {
	token := r.Header.Get(mcp.HeaderSession)
	if token == "" {
		token = r.URL.Query().Get(parameter)
	}
	again := r.Header.Get(mcp.HeaderLastEvent)
	if token == "" && again != "" {
		token = again
	}
	if token != "" {
		s, err := h.Engine.Session(r.Context(), c, token)
		switch {
		case err == nil:
			return s, true
		case !errors.Is(err, engine.ErrNoSession):
			unavailable(w, err.Error())
			return nil, false
		case again == "":
			guard.Refuse(w, http.StatusNotFound, err.Error())
			return nil, false
		}
	}
	s, refused := h.Engine.Open(r.Context(), c)
	if refused != nil {
		unavailable(w, refused.Message)
		return nil, false
	}
	return s, true
}

// leave ends a session whose stream ended, unless its client comes back in time.
func (h *Handler) leave(c engine.Client, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.Draining.Err() != nil {
		return // it may come back at another gateway; if not, the session ends when it was idle for long
	}
	var timer *time.Timer
	timer = time.AfterFunc(h.ResumeTime, func() {
		h.mu.Lock()
		delete(h.left, timer)
		h.mu.Unlock()
		h.run(func(context.Context) { h.close(c, token) })
	})
	h.left[timer] = struct{}{}
}

// parameter names the session in the endpoint that messages are sent to.
const parameter = "session"

func (h *Handler) admit(w http.ResponseWriter, r *http.Request) (engine.Client, bool) {
	principal, ok := h.Guard.Admit(w, r)
	if !ok {
		return engine.Client{}, false
	}
	client := engine.Client{Principal: principal, View: r.PathValue("view"), Transport: telemetry.TransportSSE, Standing: true}
	if !h.Engine.HasView(client.View) {
		guard.Refuse(w, http.StatusNotFound, "no view or server has this name")
		return engine.Client{}, false
	}
	return client, true
}

func unavailable(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", "1")
	guard.Refuse(w, http.StatusServiceUnavailable, message)
}

// Waits between two tries to reach the standing stream.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

// lingerTime is how long a stream stays for the last answers once the gateway stops and no request runs.
const lingerTime = 250 * time.Millisecond

// follow passes on the session's standing stream until the client is gone, the session ended or the gateway has
// drained.
func (h *Handler) follow(s *stream, c engine.Client, token string) {
	drained := make(chan struct{})
	leaving, leave := context.WithCancel(s.ctx)
	waiting := context.AfterFunc(h.Draining, func() {
		defer close(drained)
		h.drain(s)
		leave()
	})
	defer func() {
		s.cancel()
		if !waiting() {
			<-drained
		}
	}()
	wait := firstWait
	for leaving.Err() == nil {
		began := time.Now()
		session, err := h.Engine.Session(leaving, c, token)
		if err == nil {
			err = session.Attend(s.ctx, leaving, s)
		}
		if errors.Is(err, engine.ErrNoSession) || errors.Is(err, engine.ErrDisplaced) {
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

// drain waits, where the gateway stops, until the requests that it took are answered or the stream's client is gone.
func (h *Handler) drain(s *stream) {
	select {
	case <-h.quiet():
	case <-s.ctx.Done():
		return
	}
	select {
	case <-time.After(lingerTime):
	case <-s.ctx.Done():
	}
}

// closeTime is how long the end of a session may take.
const closeTime = 5 * time.Second

// close ends the session: this transport has no way back to it.
func (h *Handler) close(c engine.Client, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	session, err := h.Engine.Session(ctx, c, token)
	if err == nil {
		err = session.Leave(ctx)
	}
	if err != nil && !errors.Is(err, engine.ErrNoSession) {
		h.Log.Info("a session could not be ended with its stream; it ends when it was idle for long", "error", err)
	}
}
