package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// A task (SEP-2663) is either a server's own, and requests about it are passed through to that server, or one of
// the session service, which made it of a slow call. Which one it is stands in the id that the client holds: it is
// sealed, names all that a gateway must know, and is good for its principal only.

const purposeTask = "erlmcp task v1"

// taskTime is how long a request about a task may take.
const taskTime = 30 * time.Second

// taskAttempt is how long one owner may take for it.
const taskAttempt = 3 * time.Second

// maxServerTask is how long a server's own task id may be, in bytes: ours holds it, and travels in a header.
const maxServerTask = 1 << 10

// taskHandle is what a task id of ours holds.
type taskHandle struct {
	Server string `json:"s"`
	// ID is the server's own, or, of a task of the session service, that service's.
	ID    string `json:"i"`
	Owned bool   `json:"o,omitempty"` // by the session service
	// Address is the owner that the task began at, and Conversation the one there with a server that keeps state.
	Address      string `json:"a,omitempty"`
	Conversation string `json:"c,omitempty"`
}

func (e *Engine) sealTask(h taskHandle, principal string) string {
	plain, _ := json.Marshal(h)
	return e.config.Sealer.Seal(purposeTask, plain, []byte(principal))
}

// openTask reads a task id. ok is false where it is none of this principal's.
func (e *Engine) openTask(token, principal string) (h taskHandle, ok bool) {
	plain, err := e.config.Sealer.Open(purposeTask, token, []byte(principal))
	return h, err == nil && json.Unmarshal(plain, &h) == nil
}

// visibleTask is openTask for a client of a view: a task of a server that the view does not show is unknown there.
func (e *Engine) visibleTask(token string, c Client, view *catalog.View) (taskHandle, bool) {
	h, ok := e.openTask(token, c.Principal.ID)
	return h, ok && slices.Contains(view.Servers, h.Server)
}

var errUnknownTask = jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "Unknown task: it never was, has expired, or is another principal's")

func unknownTask(id json.RawMessage) Reply {
	return failure(id, http.StatusBadRequest, errUnknownTask)
}

// created puts an id of ours in the place of a new task's. h tells what it stands for; its ID is filled in where the
// task is the server's own.
func (e *Engine) created(answer *upstream.Reply, c Client, env envelope, h taskHandle) *jsonrpc.Error {
	if !era.TaskCreated(answer.Result) {
		return nil
	}
	if !env.tasks {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q made a task of the call of a client that takes none; whether it is carried out is unknown", h.Server)
	}
	if !h.Owned {
		id, ok := jsonrpc.GetString(answer.Result, "taskId")
		if !ok || id == "" || len(id) > maxServerTask {
			return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q made a task without an id of 1 to %d bytes", h.Server, maxServerTask)
		}
		h.ID = id
	}
	answer.Result = jsonrpc.With(answer.Result, jsonrpc.String(e.sealTask(h, c.Principal.ID)), "taskId")
	return nil
}

// task serves tasks/get, tasks/update and tasks/cancel.
func (e *Engine) task(ctx context.Context, c Client, env envelope, m *jsonrpc.Message, view *catalog.View, measured *Measured) Reply {
	if !env.tasks {
		return failure(m.ID, http.StatusBadRequest, mcp.NoTasks())
	}
	token, r := required(m.Params, "taskId")
	if r == nil && m.Method == mcp.MethodTasksUpdate {
		if responses := jsonrpc.Get(m.Params, "inputResponses"); len(responses) == 0 || responses[0] != '{' {
			r = refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, `params needs "inputResponses", an object`)
		}
	}
	if r != nil {
		return failure(m.ID, r.status, r.err)
	}
	h, ok := e.visibleTask(token, c, view)
	if !ok {
		return unknownTask(m.ID)
	}
	measured.Server = h.Server
	ctx, cancel := context.WithTimeout(ctx, taskTime)
	defer cancel()
	if h.Owned {
		return e.ownedTask(ctx, c, m, token, h)
	}
	s := e.config.Catalog.Current().Server(h.Server)
	if s == nil {
		return unknownTask(m.ID)
	}
	params := jsonrpc.With(m.Params, jsonrpc.String(h.ID), "taskId")
	answer, refused, httpStatus := e.askServer(ctx, c, s, h, m.Method, params)
	switch {
	case refused != nil:
		return failure(m.ID, httpStatus, refused)
	case answer.Error != nil && string(jsonrpc.Get(answer.Error, "code")) == "-32602" && m.Method != mcp.MethodTasksUpdate:
		return unknownTask(m.ID)
	case jsonrpc.Get(answer.Result, "taskId") != nil:
		answer.Result = jsonrpc.With(answer.Result, jsonrpc.String(token), "taskId")
	}
	return answered(m.ID, answer)
}

// askServer sends a request about a server's own task to that server.
func (e *Engine) askServer(ctx context.Context, c Client, s *registryv1.CatalogServer, h taskHandle, method string, params json.RawMessage) (answer upstream.Reply, refused *jsonrpc.Error, httpStatus int) {
	if Sessionless(s) {
		peer, done, err := e.config.Servers.Peer(ctx, s)
		if err == nil {
			defer done()
			answer, err = peer.Call(ctx, upstream.Request{Method: method, Params: params}, nil)
		}
		if err != nil {
			refused, httpStatus = serverError(h.Server, err)
		}
		return answer, refused, httpStatus
	}
	owner, err := e.config.Owners.Upstream(h.Address)
	if err == nil {
		answer, err = oneAnswer(ctx, owner, &sessionv1.CallRequest{
			Principal: &sessionv1.Principal{Id: c.Principal.ID}, Server: h.Server, Conversation: h.Conversation,
			Message: jsonrpc.Request(json.RawMessage("1"), method, params),
		})
	}
	if err != nil {
		refused, httpStatus = ownerError(err)
	}
	return answer, refused, httpStatus
}

// oneAnswer sends a request through an owner and passes over all but the answer.
func oneAnswer(ctx context.Context, owner sessionv1.UpstreamServiceClient, req *sessionv1.CallRequest) (upstream.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := owner.Call(ctx, req)
	if err != nil {
		return upstream.Reply{}, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return upstream.Reply{}, err
		}
		if message, err := jsonrpc.Parse(response.GetMessage()); err == nil && message.IsResponse() {
			return upstream.Reply{Result: message.Result, Error: message.Error}, nil
		}
	}
}

var acknowledged = json.RawMessage(`{"resultType":"` + mcp.ResultComplete + `"}`)

// ownedTask serves a request about a task of the session service.
func (e *Engine) ownedTask(ctx context.Context, c Client, m *jsonrpc.Message, token string, h taskHandle) Reply {
	principal := &sessionv1.Principal{Id: c.Principal.ID}
	if m.Method == mcp.MethodTasksGet {
		state, _, err := e.taskState(ctx, principal, h.ID)
		if err != nil {
			return e.taskFailed(ctx, m.ID, err)
		}
		state = jsonrpc.With(state, jsonrpc.String(token), "taskId")
		return success(m.ID, jsonrpc.With(state, jsonrpc.String(mcp.ResultComplete), "resultType"))
	}
	err := e.atTaskOwner(ctx, principal, h, func(owner sessionv1.TaskServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, taskAttempt)
		defer cancel()
		if m.Method == mcp.MethodTasksCancel {
			_, err := owner.CancelTask(ctx, &sessionv1.CancelTaskRequest{Principal: principal, TaskId: h.ID})
			return err
		}
		_, err := owner.UpdateTask(ctx, &sessionv1.UpdateTaskRequest{
			Principal: principal, TaskId: h.ID, InputResponses: jsonrpc.Get(m.Params, "inputResponses"),
		})
		return err
	})
	if err != nil {
		return e.taskFailed(ctx, m.ID, err)
	}
	return success(m.ID, acknowledged)
}

// taskState asks any owner for a task of the session service, and where it is carried out.
func (e *Engine) taskState(ctx context.Context, principal *sessionv1.Principal, id string) (state json.RawMessage, address string, err error) {
	anyone, err := e.config.Owners.Tasks("")
	if err != nil {
		return nil, "", err
	}
	for attempt := 0; ; attempt++ { // one that hangs must not hide the others
		once, cancel := context.WithTimeout(ctx, taskAttempt)
		response, err := anyone.GetTask(once, &sessionv1.GetTaskRequest{Principal: principal, TaskId: id})
		cancel()
		if ctx.Err() != nil || status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Unavailable || attempt == maxMoves {
			return response.GetTask(), response.GetAddress(), err
		}
	}
}

// maxMoves is how often a task is followed to another owner in one request.
const maxMoves = 3

// atTaskOwner does something, which may be done twice, at the owner of a task of the session service, which it first looks for where the task
// began. With a task that has ended nothing is done.
func (e *Engine) atTaskOwner(ctx context.Context, principal *sessionv1.Principal, h taskHandle, do func(sessionv1.TaskServiceClient) error) error {
	address := h.Address
	for attempt := 0; ; attempt++ {
		owner, err := e.config.Owners.Tasks(address)
		if err == nil {
			err = do(owner)
		}
		switch status.Code(err) {
		case codes.FailedPrecondition, codes.Unavailable, codes.DeadlineExceeded:
		default:
			return err
		}
		if ctx.Err() != nil || attempt == maxMoves {
			return err
		}
		if _, address, err = e.taskState(ctx, principal, h.ID); err != nil || address == "" {
			return err
		}
	}
}

// taskFailed is the reply to a request about a task that an owner could not serve.
func (e *Engine) taskFailed(ctx context.Context, id json.RawMessage, err error) Reply {
	switch status.Code(err) {
	case codes.NotFound:
		return unknownTask(id)
	case codes.InvalidArgument:
		return failure(id, http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s", status.Convert(err).Message()))
	}
	e.config.Log.WarnContext(ctx, "a task's owner failed", "error", err)
	return failure(id, http.StatusServiceUnavailable, jsonrpc.Errorf(jsonrpc.CodeInternal, "the task's state can't be read or changed just now; the task itself is not affected, ask again shortly"))
}
