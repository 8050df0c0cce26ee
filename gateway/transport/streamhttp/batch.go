package streamhttp

import (
	"bytes"
	"net/http"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// MaxBatch is how many messages a batch may hold.
const MaxBatch = 100

// batch serves a JSON-RPC batch, which revision 2025-03-26 asks servers to take and every later one withdrew.
// Its requests are served one after the other, and their answers come in one array.
func (h *Handler) batch(r *http.Request, c engine.Client, body []byte, out *reply) {
	elements, _, err := jsonrpc.Batch(body)
	if err != nil {
		out.finish(engine.Malformed(jsonrpc.Message{}, err))
		return
	}
	if engine.IsModern(&jsonrpc.Message{}, r.Header) {
		out.finish(engine.Malformed(jsonrpc.Message{}, jsonrpc.ErrBatch))
		return
	}
	session, ok := h.session(r, c, out.w, nil)
	if !ok {
		return
	}
	if session.Version() != mcp.V2025_03_26 {
		out.finish(engine.Malformed(jsonrpc.Message{}, jsonrpc.ErrBatch))
		return
	}
	if len(elements) > MaxBatch {
		guard.Refuse(out.w, http.StatusRequestEntityTooLarge, "the batch holds too many messages")
		return
	}
	out.version = session.Version()
	var answers [][]byte
	for _, element := range elements {
		m, err := jsonrpc.Parse(element)
		switch {
		case err != nil:
			answers = append(answers, engine.Malformed(m, err).Message())
		case m.IsRequest() && m.Method == mcp.MethodInitialize:
			answers = append(answers, jsonrpc.ErrorResponse(m.ID, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "initialize must stand alone").JSON()))
		case m.IsRequest():
			if a := session.Request(out.ctx, &m, out).Message(); a != nil {
				answers = append(answers, a)
			}
		default:
			if err := session.Notify(out.ctx, &m); err != nil {
				if out.refusable() {
					refuseSession(out.w, err)
				}
				return
			}
		}
	}
	if len(answers) == 0 {
		out.finish(engine.Reply{Status: http.StatusAccepted})
		return
	}
	body = []byte{'['}
	body = append(body, bytes.Join(answers, []byte{','})...)
	out.finish(engine.Reply{Status: http.StatusOK, Body: [][]byte{append(body, ']')}})
}
