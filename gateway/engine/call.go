package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// callModern sends a modern client's request on its way: straight to the server, or to an owner where the server keeps
// state, where a call waits there for the client's input, or where it becomes a task should it take long.
func (e *Engine) callModern(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, to *destination, out Stream, measured *Measured) Reply {
	bound := stateBinding{c.Principal.ID, to.server.GetServer().GetName(), m.Method, to.params}
	var resumed *state
	if raw := jsonrpc.Get(m.Params, "requestState"); raw != nil {
		token, _ := text(raw) // what is no string is not genuine
		opened, err := e.openState(token, bound, time.Now())
		// One that is not ours is a sessionless server's own, whose calls need not have gone through an owner.
		if err != nil && (!Sessionless(to.server) || errors.Is(err, errStateExpired)) {
			return failure(m.ID, http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState is not valid for this request: %v", err))
		}
		if err == nil {
			resumed = &opened
		}
	}
	slow := env.tasks && m.Method == mcp.MethodToolsCall && e.promotes(to.server)
	keyed := hasKey(m.Params) // owners keep results under keys
	if Sessionless(to.server) && resumed == nil && !slow && !keyed {
		return e.callServer(ctx, c, env, m, to, out, measured)
	}
	req := &sessionv1.CallRequest{
		Principal: &sessionv1.Principal{Id: c.Principal.ID},
		Server:    bound.server,
		Message:   jsonrpc.Request(m.ID, m.Method, to.params),
		Tasks:     slow,
	}
	address := ""
	if resumed != nil {
		address, req.Resume = resumed.Address, resumed.Waiting
		req.Message = jsonrpc.Request(m.ID, m.Method, resumed.restore(to.params))
	}
	reply, sent := e.callOwner(ctx, c, env, m, to, address, req, bound, out, measured)
	if !sent && Sessionless(to.server) && resumed == nil && !keyed && ctx.Err() == nil {
		return e.callServer(ctx, c, env, m, to, out, measured) // without owners there are no tasks, but answers
	}
	return reply
}

// promotes reports whether owners make tasks of a server's slow calls.
func (e *Engine) promotes(s *registryv1.CatalogServer) bool {
	if mcp.HasTasks(s.GetOffer().GetCapabilities()) {
		return false
	}
	if d := s.GetServer().GetPromoteAfter(); d != nil {
		return d.AsDuration() > 0
	}
	return e.config.SlowTasks
}

// callServer sends a modern client's request straight to a server that keeps no session.
func (e *Engine) callServer(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, to *destination, out Stream, measured *Measured) Reply {
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
	answer, err := e.config.Tracer.Call(ctx, server, peer, upstream.Request{Method: m.Method, Params: params, Headers: mirrored(c.Header, m, to)}, relay{out, env.logLevel != ""})
	if err != nil {
		if ctx.Err() == context.Canceled {
			return Reply{}
		}
		e.config.Log.WarnContext(ctx, "call failed", "server", server, "method", m.Method, "error", err)
		rpcErr, httpStatus := serverError(server, err)
		return failure(m.ID, httpStatus, rpcErr)
	}
	if legacy {
		answer.Result = era.ResultToModern(m.Method, answer.Result, e.serverInfo)
		if answer.Error != nil {
			if result, refused := era.URLsRequired(answer.Error, env.capabilities); result != nil {
				answer.Result, answer.Error = result, nil
			} else {
				answer.Error = era.ErrorToModern(refused)
			}
		}
		answer.Status = 0
	}
	if refused := e.created(&answer, c, env, taskHandle{Server: server}); refused != nil {
		return failure(m.ID, http.StatusBadGateway, refused)
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

// hasKey reports whether the client named a call by an idempotency key.
func hasKey(params json.RawMessage) bool {
	return jsonrpc.Get(params, "_meta", mcp.MetaIdempotencyKey) != nil
}

// callOwner has an owner carry out a modern client's request. One that is gone is replaced by another, where the
// request was certainly not begun or may be repeated. sent is false where no owner was reached.
func (e *Engine) callOwner(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, to *destination, address string, req *sessionv1.CallRequest, bound stateBinding, out Stream, measured *Measured) (reply Reply, sent bool) {
	server, keyed := bound.server, hasKey(m.Params)
	ctx, cancel := context.WithTimeout(ctx, callTimeout(to.server)+5*time.Second)
	defer cancel()
	repeatable := req.GetResume() == "" && (keyed || e.config.Catalog.Current().Repeatable(server, m.Method, to.params))
	since := time.Now()
	for {
		at := address
		if at == "" {
			at = e.config.Owners.Home(c.Principal.ID, server)
		}
		response, err := e.relayOwner(ctx, at, req, out)
		if err == nil && response != nil {
			return e.answeredByOwner(c, env, m, response, to, bound, measured), true
		}
		if err == nil || ctx.Err() == context.Canceled {
			return Reply{}, true
		}
		again := certain(err) || repeatable && absent(err)
		if address != "" && again { // the call waited there, and nowhere else
			err = status.Error(codes.Unavailable, err.Error())
			again = false
		}
		elsewhere := certain(err) && Sessionless(to.server) && !keyed // the server itself can be asked
		if !again || elsewhere || ctx.Err() != nil || time.Since(since) > adoptionTime {
			measured.Failed = true
			rpcErr, httpStatus := ownerError(err)
			return failure(m.ID, httpStatus, rpcErr), !certain(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(adoptionEvery):
		}
	}
}

// atOwner starts a request at an owner, whichever if address is empty. The stream must be ended.
func (e *Engine) atOwner(ctx context.Context, address string, req *sessionv1.CallRequest) (*ownerStream[sessionv1.CallResponse], error) {
	o, err := e.config.Owners.Upstream(address)
	if err != nil {
		return nil, errNotBegun{err}
	}
	silent := context.Background()
	if address != "" {
		silent = e.config.Owners.Silent(address)
	}
	return opened(ctx, silent, func(ctx context.Context) (grpc.ServerStreamingClient[sessionv1.CallResponse], error) {
		return o.Call(ctx, req)
	})
}

// relayOwner has an owner carry out a request and passes on what comes before the answer, which it returns; nil
// where the client went away.
func (e *Engine) relayOwner(ctx context.Context, address string, req *sessionv1.CallRequest, out Stream) (*sessionv1.CallResponse, error) {
	stream, err := e.atOwner(ctx, address, req)
	if err != nil {
		return nil, err
	}
	defer stream.end()
	for {
		response, err := stream.next()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the owner's stream ended without an answer")
		}
		if err != nil {
			return nil, err
		}
		if jsonrpc.Get(response.GetMessage(), "method") == nil {
			return response, nil
		}
		if out.Send("", response.GetMessage()) != nil {
			return nil, nil
		}
	}
}

// answeredByOwner makes the Reply of an owner's last message.
func (e *Engine) answeredByOwner(c Client, env envelope, m *jsonrpc.Message, response *sessionv1.CallResponse, to *destination, bound stateBinding, measured *Measured) Reply {
	message, err := jsonrpc.Parse(response.GetMessage())
	if err != nil || !message.IsResponse() {
		return failure(m.ID, http.StatusBadGateway, jsonrpc.Errorf(jsonrpc.CodeInternal, "the owner sent something that is no message"))
	}
	answer := upstream.Reply{Result: message.Result, Error: message.Error}
	// A sessionless server's own state needs no owner to come back to.
	if era.InputRequired(answer.Result) && (response.GetWaiting() != "" || !Sessionless(to.server)) {
		if len(jsonrpc.Get(answer.Result, "requestState")) > maxServerState {
			return failure(m.ID, http.StatusBadGateway, jsonrpc.Errorf(jsonrpc.CodeInternal, "the requestState of server %q has more than %d bytes", bound.server, maxServerState))
		}
		token := e.sealState(state{
			Address: response.GetAddress(), Waiting: response.GetWaiting(), Server: jsonrpc.Get(answer.Result, "requestState"),
		}, bound, time.Now())
		answer.Result = jsonrpc.With(answer.Result, jsonrpc.String(token), "requestState")
	}
	h := taskHandle{Server: bound.server, ID: response.GetTask(), Owned: response.GetTask() != "", Address: response.GetAddress(), Conversation: response.GetConversation()}
	if refused := e.created(&answer, c, env, h); refused != nil {
		return failure(m.ID, http.StatusBadGateway, refused)
	}
	measured.Failed = answer.Error != nil || isErrorResult(answer.Result)
	return answered(m.ID, answer)
}
