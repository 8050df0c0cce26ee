package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// DefaultCallTimeout is how long a call may take where the server's declaration says nothing.
const DefaultCallTimeout = 5 * time.Minute

func callTimeout(s *registryv1.CatalogServer) time.Duration {
	if d := s.GetServer().GetCallTimeout(); d != nil {
		return d.AsDuration()
	}
	return DefaultCallTimeout
}

// callModern sends a modern client's request on its way: straight to the server, or to the owner of the
// server's stateful end.
func (e *Engine) callModern(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, to *destination, out Stream, measured *Measured) Reply {
	if !Sessionless(to.server) {
		return e.callOwner(ctx, c, m, to, out, measured)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout(to.server))
	defer cancel()
	server := to.server.GetServer().GetName()
	peer, done, err := e.config.Servers.Peer(ctx, to.server)
	if err != nil {
		rpcErr, httpStatus := serverError(server, err)
		return failure(m.ID, httpStatus, rpcErr)
	}
	defer done()
	legacy := legacyOnly(to.server)
	params := to.params
	if legacy {
		params = era.RequestToLegacy(params)
	}
	answer, err := peer.Call(ctx, upstream.Request{Method: m.Method, Params: params, Headers: mirrored(c.Header, m, to)}, relay{out, env.logLevel != ""})
	if err != nil {
		if ctx.Err() == context.Canceled {
			return Reply{}
		}
		e.config.Log.Warn("call failed", "server", server, "method", m.Method, "error", err)
		rpcErr, httpStatus := serverError(server, err)
		return failure(m.ID, httpStatus, rpcErr)
	}
	if legacy {
		answer.Result = era.ResultToModern(m.Method, answer.Result, e.serverInfo)
		answer.Error = era.ErrorToModern(answer.Error)
		answer.Status = 0
	}
	measured.Failed = answer.Error != nil || isErrorResult(answer.Result)
	return answered(m.ID, answer)
}

// answered makes the Reply of a modern server's answer. A server's choice of HTTP status for an error stands,
// but for 401 and 403, which would speak of the client's credentials where the server spoke of ours.
func answered(id json.RawMessage, answer upstream.Reply) Reply {
	if answer.Error == nil {
		return success(id, answer.Result)
	}
	httpStatus := http.StatusOK
	switch string(jsonrpc.Get(answer.Error, "code")) {
	case "-32020", "-32021", "-32022", "-32602", "-32600":
		httpStatus = http.StatusBadRequest
	case "-32601":
		httpStatus = http.StatusNotFound
	}
	return Reply{Status: httpStatus, Body: [][]byte{jsonrpc.ErrorResponse(id, answer.Error)}}
}

// relay passes on what a server sends before its answer to a modern client.
type relay struct {
	out  Stream
	logs bool
}

// Notification implements upstream.Listener.
func (r relay) Notification(method string, params json.RawMessage) {
	if method == mcp.MethodMessage && !r.logs {
		return // a modern client hears logs only when it asks for them
	}
	_ = r.out.Send("", jsonrpc.Request(nil, method, params)) // a client that is gone ends the call's context
}

// Request implements upstream.Listener: a server without a session has no way to ask.
func (r relay) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	if method == mcp.MethodPing {
		return json.RawMessage("{}"), nil
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "this client can't be asked; Method not found: %s", method)
}

// callOwner has the owner of a server's stateful end carry out a modern client's request.
func (e *Engine) callOwner(ctx context.Context, c Client, m *jsonrpc.Message, to *destination, out Stream, measured *Measured) Reply {
	server := to.server.GetServer().GetName()
	req := &sessionv1.CallRequest{
		Principal: &sessionv1.Principal{Id: c.Principal.ID},
		Server:    server,
		Message:   jsonrpc.Request(m.ID, m.Method, to.params),
	}
	address := ""
	bound := stateBinding{c.Principal.ID, server, m.Method, to.params}
	if raw := jsonrpc.Get(m.Params, "requestState"); raw != nil {
		token, _ := text(raw) // what is no string is not genuine
		state, err := e.openState(token, bound, time.Now())
		if err != nil {
			return failure(m.ID, http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState is not valid for this request: %v", err))
		}
		address, req.Resume = state.Address, state.Waiting
		req.Message = jsonrpc.Request(m.ID, m.Method, state.restore(to.params))
	}
	owner, err := e.config.Owners.Upstream(address, c.Principal.ID, server)
	if err != nil {
		rpcErr, httpStatus := ownerError(err)
		return failure(m.ID, httpStatus, rpcErr)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout(to.server)+5*time.Second)
	defer cancel()
	stream, err := owner.Call(ctx, req)
	if err != nil {
		rpcErr, httpStatus := ownerError(err)
		return failure(m.ID, httpStatus, rpcErr)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			if ctx.Err() == context.Canceled {
				return Reply{}
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			rpcErr, httpStatus := ownerError(err)
			return failure(m.ID, httpStatus, rpcErr)
		}
		message, err := jsonrpc.Parse(response.GetMessage())
		if err != nil {
			return failure(m.ID, http.StatusBadGateway, jsonrpc.Errorf(jsonrpc.CodeInternal, "the owner sent something that is no message"))
		}
		if !message.IsResponse() {
			if out.Send("", response.GetMessage()) != nil {
				return Reply{}
			}
			continue
		}
		answer := upstream.Reply{Result: message.Result, Error: message.Error}
		if era.InputRequired(answer.Result) {
			if len(jsonrpc.Get(answer.Result, "requestState")) > maxServerState {
				return failure(m.ID, http.StatusBadGateway, jsonrpc.Errorf(jsonrpc.CodeInternal, "the requestState of server %q has more than %d bytes", server, maxServerState))
			}
			token := e.sealState(state{
				Address: response.GetAddress(), Waiting: response.GetWaiting(), Server: jsonrpc.Get(answer.Result, "requestState"),
			}, bound, time.Now())
			answer.Result = jsonrpc.With(answer.Result, jsonrpc.String(token), "requestState")
		}
		measured.Failed = answer.Error != nil || isErrorResult(answer.Result)
		return answered(m.ID, answer)
	}
}
