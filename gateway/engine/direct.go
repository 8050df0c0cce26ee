package engine

import (
	"context"
	"net/http"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// direct reports whether a legacy client's call goes straight to its server: where the declaration says so and
// nothing of it needs the session.
func (s *Session) direct(server *registryv1.CatalogServer, m *jsonrpc.Message) bool {
	if server.GetServer().GetCalls() != registryv1.CallPath_CALL_PATH_DIRECT || !Sessionless(server) {
		return false
	}
	return m.Method != mcp.MethodSubscribe && m.Method != mcp.MethodUnsubscribe && !hasKey(m.Params)
}

// callDirect sends a legacy client's call straight to a server that keeps no session. The call ends with ctx.
// Towards the server the client has no capabilities: there is no way to ask it anything on this path.
func (s *Session) callDirect(ctx context.Context, m *jsonrpc.Message, to *destination, out Stream, measured *Measured) Reply {
	ctx, cancel := context.WithTimeout(ctx, callTimeout(to.server))
	defer cancel()
	server := to.server.GetServer().GetName()
	peer, done, err := s.engine.config.Servers.Peer(ctx, to.server)
	if err == nil {
		defer done()
		params := to.params
		if !legacyOnly(to.server) {
			params = era.RequestToModern(params, era.Client{})
		}
		var answer upstream.Reply
		answer, err = peer.Call(ctx, upstream.Request{Method: m.Method, Params: params, Headers: mirrored(s.client.Header, m, to)}, relay{out, true})
		if err == nil {
			measured.Failed = answer.Error != nil || isErrorResult(answer.Result)
			if answer.Error != nil {
				return Reply{Status: http.StatusOK, Body: [][]byte{jsonrpc.ErrorResponse(m.ID, era.ErrorToLegacy(m.Method, answer.Error))}}
			}
			return success(m.ID, era.ResultForRevision(m.Method, s.Version(), answer.Result))
		}
	}
	if ctx.Err() == context.Canceled {
		return Reply{}
	}
	measured.Failed = true
	rpcErr, _ := serverError(server, err)
	return failure(m.ID, http.StatusOK, rpcErr)
}
