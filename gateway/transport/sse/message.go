package sse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"sync"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// maxBatch is how many messages a batch may hold.
const maxBatch = 100

// Message serves POST /messages and /messages/{view}, the endpoint that a stream tells: it takes one message, whose
// answer comes on the stream.
func (h *Handler) Message(w http.ResponseWriter, r *http.Request) {
	h.init()
	client, ok := h.admit(w, r)
	if !ok {
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		guard.Refuse(w, http.StatusUnsupportedMediaType, "Content-Type must be application/json")
		return
	}
	token := r.URL.Query().Get(parameter)
	session, err := h.Engine.Session(r.Context(), client, token)
	if err != nil {
		refuse(w, err)
		return
	}
	body, ok := h.Guard.Body(w, r)
	if !ok {
		return
	}
	h.Count.Received()
	m, err := jsonrpc.Parse(body)
	switch {
	case errors.Is(err, jsonrpc.ErrBatch) && session.Version() == mcp.V2025_03_26:
		client.Standing = false // the answers come together
		if session, err = h.Engine.Session(r.Context(), client, token); err != nil {
			refuse(w, err)
			return
		}
		h.batch(w, r, session, body)
	case err != nil:
		malformed(w, m, err)
	case m.IsRequest():
		h.accept(w, r, func(ctx context.Context, taken func()) {
			h.post(ctx, session, request(ctx, session, &m, taken))
		})
	default:
		if err := session.Notify(r.Context(), &m); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

func malformed(w http.ResponseWriter, m jsonrpc.Message, err error) {
	if m.ID == nil {
		m.ID = json.RawMessage("null")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(engine.Malformed(m, err).Message())
}

func refuse(w http.ResponseWriter, err error) {
	if errors.Is(err, engine.ErrNoSession) {
		guard.Refuse(w, http.StatusNotFound, "session not found; open a new stream")
		return
	}
	unavailable(w, err.Error())
}

// accept has a request carried out in the background, for its sender must not wait for the answer here, but only until
// the request can't be lost any more: it was taken, or is done.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, request func(ctx context.Context, taken func())) {
	safe := make(chan struct{})
	taken := sync.OnceFunc(func() { close(safe) })
	if !h.run(func(ctx context.Context) {
		defer taken()
		request(ctx, taken)
	}) {
		unavailable(w, "too many requests are under way; try again shortly")
		return
	}
	select {
	case <-safe:
		w.WriteHeader(http.StatusAccepted)
	case <-r.Context().Done():
	}
}

// request carries out a request and returns its answer; nil for none, or where it is on the stream. What comes before it
// goes there too.
func request(ctx context.Context, s *engine.Session, m *jsonrpc.Message, taken func()) []byte {
	if m.Method == mcp.MethodInitialize {
		return s.Initialize(ctx, m).Message()
	}
	return s.Request(ctx, m, standing{ctx, s, taken}).Message()
}

// batch serves a JSON-RPC batch, one request after the other; their answers come in one array.
func (h *Handler) batch(w http.ResponseWriter, r *http.Request, s *engine.Session, body []byte) {
	elements, _, err := jsonrpc.Batch(body)
	if err != nil || len(elements) > maxBatch {
		guard.Refuse(w, http.StatusBadRequest, "a batch holds 1 to 100 messages")
		return
	}
	h.accept(w, r, func(ctx context.Context, taken func()) {
		taken() // one request follows the other, which may take long
		var answers [][]byte
		for _, element := range elements {
			m, err := jsonrpc.Parse(element)
			switch {
			case err != nil:
				answers = append(answers, engine.Malformed(m, err).Message())
			case m.IsRequest():
				if a := request(ctx, s, &m, taken); a != nil {
					answers = append(answers, a)
				}
			default:
				if err := s.Notify(ctx, &m); err != nil {
					return
				}
			}
		}
		if len(answers) > 0 {
			h.post(ctx, s, append(append([]byte{'['}, bytes.Join(answers, []byte{','})...), ']'))
		}
	})
}

// post puts an answer on the session's stream.
func (h *Handler) post(ctx context.Context, s *engine.Session, message []byte) {
	if message == nil {
		return
	}
	err := standing{ctx, s, nil}.Send("", message)
	if err != nil && !errors.Is(err, engine.ErrNoSession) && ctx.Err() == nil {
		h.Log.WarnContext(ctx, "an answer did not reach its client's stream", "error", err)
	}
}

// standing is a session's standing stream, written to. It implements engine.Stream.
type standing struct {
	ctx   context.Context
	s     *engine.Session
	taken func() // hears that the owner took the request
}

// postTime is how long a message may wait for room on a stream that its client reads slowly.
const postTime = time.Minute

// Send implements engine.Stream.
func (t standing) Send(_ string, message []byte) error {
	if len(message) == 0 {
		t.taken()
		return nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, postTime)
	defer cancel()
	return t.s.Post(ctx, message)
}
