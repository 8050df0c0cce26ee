// Package streamhttp is the Streamable HTTP transport, both eras on one endpoint: framing and the life of
// connections. What a message means is the engine's to say. Start at [Handler.ServeHTTP].
package streamhttp

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/gateway/transport/takeover"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Transport is this transport's name in metrics.
const Transport = "http"

// Handler serves /mcp and /mcp/{view}: mount it on both patterns, with the path value "view".
type Handler struct {
	Engine *engine.Engine
	Guard  *guard.Guard
	// KeepAlive is how often a quiet stream sends a comment, so that no proxy takes it for dead; 15 s when 0.
	KeepAlive time.Duration
	// WriteTimeout is how long a client may leave written bytes unread before it counts as gone; 30 s when 0.
	WriteTimeout time.Duration
	// Draining ends when the gateway begins to stop: streams that wait for events end then, so that their
	// clients go elsewhere.
	Draining context.Context
	// Count counts connections and messages. Optional.
	Count transport.Counter

	open    atomic.Int64
	streams takeover.Streams
}

// Shutdown waits until the streams that were taken from the HTTP server have ended, or ctx has. Draining must have ended
// before.
func (h *Handler) Shutdown(ctx context.Context) { h.streams.Shutdown(ctx) }

// Connections is how many requests are being served now.
func (h *Handler) Connections() int { return int(h.open.Load()) }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if transport.First(r.Context()) {
		h.count().Connected()
	}
	h.deadline(w)
	principal, ok := h.Guard.Admit(w, r)
	if !ok || !h.Guard.Enter(w, principal) {
		return
	}
	h.open.Add(1)
	leave := func() {
		h.open.Add(-1)
		h.Guard.Leave(principal)
	}
	client := engine.Client{Principal: principal, View: r.PathValue("view"), Transport: Transport, Header: r.Header}
	if r.Method == http.MethodGet && h.Engine.HasView(client.View) {
		h.stream(w, r, client, leave)
		return
	}
	defer leave()
	switch {
	case !h.Engine.HasView(client.View):
		guard.Refuse(w, http.StatusNotFound, "no view or server has this name")
	case r.Method == http.MethodPost:
		h.post(w, r, client)
	case r.Method == http.MethodDelete:
		h.end(w, r, client)
	default:
		notAllowed(w)
	}
}

func (h *Handler) count() transport.Counter {
	if h.Count == nil {
		return transport.Uncounted{}
	}
	return h.Count
}

func notAllowed(w http.ResponseWriter) {
	w.Header().Set("Allow", "POST, GET, DELETE")
	guard.Refuse(w, http.StatusMethodNotAllowed, "use POST, or with a session GET and DELETE")
}

func (h *Handler) post(w http.ResponseWriter, r *http.Request, c engine.Client) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		guard.Refuse(w, http.StatusUnsupportedMediaType, "Content-Type must be application/json")
		return
	}
	accept, ok := accepted(r.Header)
	if !ok {
		guard.Refuse(w, http.StatusNotAcceptable, "Accept must allow application/json and text/event-stream")
		return
	}
	body, ok := h.Guard.Body(w, r)
	if !ok {
		return
	}
	h.count().Received()
	out := h.newReply(r.Context(), w, accept, attended(r, c))
	defer out.stop()
	m, err := jsonrpc.Parse(body)
	switch {
	case errors.Is(err, jsonrpc.ErrBatch):
		h.batch(r, c, body, out)
	case err != nil:
		out.finish(engine.Malformed(m, err))
	case engine.IsModern(&m, r.Header):
		if m.Method == mcp.MethodListen && !accept {
			guard.Refuse(w, http.StatusNotAcceptable, "Accept must allow text/event-stream, in which a subscription is answered")
			return
		}
		out.finish(h.Engine.Modern(out.ctx, c, &m, out))
	default:
		h.legacy(r, c, &m, out)
	}
}

// accepted reads the Accept header: whether the client takes event streams, and whether it takes anything that
// is sent here at all. A client that says nothing takes everything.
func accepted(header http.Header) (events, ok bool) {
	values := header.Values("Accept")
	if len(values) == 0 {
		return true, true
	}
	json := false
	for _, value := range values {
		for kind := range strings.SplitSeq(value, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "*/*":
				return true, true
			case "text/event-stream", "text/*":
				events = true
			case "application/json", "application/*":
				json = true
			}
		}
	}
	return events, json || events
}

// legacy serves one message of the legacy era.
func (h *Handler) legacy(r *http.Request, c engine.Client, m *jsonrpc.Message, out *reply) {
	if m.Method == mcp.MethodInitialize && m.IsRequest() {
		session, answer := h.Engine.Initialize(out.ctx, c, m)
		if session != nil {
			out.w.Header().Set(mcp.HeaderSession, session.Token())
		}
		out.finish(answer)
		return
	}
	session, ok := h.session(r, c, out.w, m)
	if !ok {
		return
	}
	out.version = session.Version()
	if m.IsRequest() {
		out.finish(session.Request(out.ctx, m, out))
		return
	}
	if err := session.Notify(out.ctx, m); err != nil {
		refuseSession(out.w, err)
		return
	}
	out.w.WriteHeader(http.StatusAccepted)
}

// session finds the session that a legacy request belongs to. Where it returns false the answer was written.
func (h *Handler) session(r *http.Request, c engine.Client, w http.ResponseWriter, m *jsonrpc.Message) (*engine.Session, bool) {
	if v := r.Header.Get(mcp.HeaderVersion); v != "" && !mcp.IsLegacy(v) {
		guard.Refuse(w, http.StatusBadRequest, "unsupported MCP-Protocol-Version; supported with a session: "+strings.Join(mcp.LegacyVersions, ", "))
		return nil, false
	}
	token := r.Header.Get(mcp.HeaderSession)
	if token == "" {
		message := "the Mcp-Session-Id header is missing; send initialize first"
		if m != nil && m.ID != nil {
			reply := jsonrpc.ErrorResponse(m.ID, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", message).JSON())
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(reply)
		} else {
			guard.Refuse(w, http.StatusBadRequest, message)
		}
		return nil, false
	}
	session, err := h.Engine.Session(r.Context(), c, token)
	if err != nil {
		refuseSession(w, err)
		return nil, false
	}
	return session, true
}

func refuseSession(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, engine.ErrNoSession):
		guard.Refuse(w, http.StatusNotFound, err.Error())
	case errors.Is(err, engine.ErrGone):
		guard.Refuse(w, http.StatusNotFound, err.Error()+"; initialize a new session")
	case errors.Is(err, engine.ErrEventID):
		guard.Refuse(w, http.StatusBadRequest, err.Error())
	default:
		w.Header().Set("Retry-After", "1")
		guard.Refuse(w, http.StatusServiceUnavailable, err.Error())
	}
}

// knowsSessions refuses what only sessions have to clients of the modern era. Where it returns false the answer was
// written.
func knowsSessions(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get(mcp.HeaderVersion) < mcp.ModernVersions[0] {
		return true
	}
	w.Header().Set("Allow", "POST")
	guard.Refuse(w, http.StatusMethodNotAllowed, "revision "+mcp.ModernVersions[0]+" knows POST only")
	return false
}

// end serves DELETE.
func (h *Handler) end(w http.ResponseWriter, r *http.Request, c engine.Client) {
	if !knowsSessions(w, r) {
		return
	}
	session, ok := h.session(r, c, w, nil)
	if !ok {
		return
	}
	if err := session.Close(r.Context()); err != nil {
		refuseSession(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// stream serves GET, the session's standing stream or the rest of a broken one. Its connection is taken from the HTTP
// server, where that can be. leave is called once the stream has ended.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, c engine.Client, leave func()) {
	taken := false
	defer func() {
		if !taken {
			leave()
		}
	}()
	if !knowsSessions(w, r) {
		return
	}
	if events, ok := accepted(r.Header); !ok || !events {
		guard.Refuse(w, http.StatusNotAcceptable, "Accept must allow text/event-stream")
		return
	}
	c.Header = http.Header{} // none matters any more, and a stream may be open for long
	session, ok := h.session(r, c, w, nil)
	if !ok {
		return
	}
	after, by := r.Header.Get(mcp.HeaderLastEvent), attended(r, c)
	taken = h.streams.Serve(w, r, func(response *takeover.Response) {
		defer leave()
		h.listen(response.Context(), response, session, after, by)
	})
	if !taken {
		h.listen(r.Context(), w, session, after, by)
	}
}

// credential is what a stream is open by.
type credential struct {
	bearer    string
	principal access.Principal
}

func attended(r *http.Request, c engine.Client) credential {
	bearer, _ := access.Bearer(r.Header)
	return credential{bearer, c.Principal}
}

// listen passes on a session's stream.
func (h *Handler) listen(ctx context.Context, w http.ResponseWriter, session *engine.Session, after string, by credential) {
	out := h.newReply(ctx, w, true, by)
	out.version = session.Version()
	defer out.stop()
	defer context.AfterFunc(h.Draining, out.cancel)()
	if after == "" {
		out.start()
	} else {
		// Whether the events are still kept is known soon; a client must not wait for the first one to hear so.
		quiet := time.AfterFunc(quietTime, out.start)
		defer quiet.Stop()
	}
	if err := session.Listen(out.ctx, after, out); err == nil {
		out.start() // nothing was missed
	} else if out.refusable() {
		refuseSession(w, err)
	}
}

// quietTime is how long a resumed stream waits for its first event before it begins without.
const quietTime = 2 * time.Second
