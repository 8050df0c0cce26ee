package tasks

import (
	"encoding/json"
	"strconv"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// Statuses of a task.
const (
	Working       = "working"
	InputRequired = "input_required"
	Completed     = "completed"
	Failed        = "failed"
	Cancelled     = "cancelled"
)

// ended reports whether a status is final.
func ended(status string) bool { return status == Completed || status == Failed || status == Cancelled }

// state is a task as clients see it, without its id: the DetailedTask of the specification. It is kept as JSON, in
// which requests, result and error are the bytes that came.
type state struct {
	Status        string          `json:"status"`
	StatusMessage string          `json:"statusMessage"`
	CreatedAt     time.Time       `json:"createdAt"`
	LastUpdatedAt time.Time       `json:"lastUpdatedAt"`
	TTL           int64           `json:"ttlMs"`
	PollInterval  int64           `json:"pollIntervalMs"`
	InputRequests json.RawMessage `json:"inputRequests"`
	Result        json.RawMessage `json:"result"`
	Error         json.RawMessage `json:"error"`
	Meta          stateMeta       `json:"_meta"`
}

// stateMeta is what we add to a task's state.
type stateMeta struct {
	// Again is how often another owner carried the call out again.
	Again int `json:"dev.erlmcp/again"`
}

func (s *state) encode() json.RawMessage {
	var o jsonrpc.Object
	o.Set("status", jsonrpc.String(s.Status))
	if s.StatusMessage != "" {
		o.Set("statusMessage", jsonrpc.String(s.StatusMessage))
	}
	o.Set("createdAt", jsonrpc.String(s.CreatedAt.Format(time.RFC3339Nano)))
	o.Set("lastUpdatedAt", jsonrpc.String(s.LastUpdatedAt.Format(time.RFC3339Nano)))
	o.Set("ttlMs", jsonrpc.IntID(s.TTL))
	o.Set("pollIntervalMs", jsonrpc.IntID(s.PollInterval))
	if s.Meta.Again > 0 {
		o.Set("_meta", json.RawMessage(`{"dev.erlmcp/again":`+strconv.Itoa(s.Meta.Again)+`}`))
	}
	for name, value := range map[string]json.RawMessage{"inputRequests": s.InputRequests, "result": s.Result, "error": s.Error} {
		if value != nil {
			o.Set(name, value)
		}
	}
	return o.JSON()
}

// statusOf reads the status of a state that was kept.
func statusOf(kept []byte) string {
	status, _ := jsonrpc.GetString(kept, "status")
	return status
}

// end puts the state into the final one that a call's answer means.
func (s *state) end(reply upstream.Reply) {
	s.InputRequests, s.StatusMessage = nil, ""
	if reply.Error == nil {
		s.Status, s.Result = Completed, reply.Result
		return
	}
	s.Status, s.Error = Failed, reply.Error
	s.StatusMessage, _ = jsonrpc.GetString(reply.Error, "message")
}

// lost is the answer of a call whose owner died: whether it was carried out is unknown.
func lost(server string) upstream.Reply {
	return upstream.Reply{Error: upstream.Explain(server, upstream.ErrLost).JSON()}
}

// spec is what is kept of a task to go on with it at another owner.
type spec struct {
	Server string `json:"server"`
	// Request is the JSON-RPC request, if carrying it out again repeats nothing; else nil.
	Request json.RawMessage `json:"request"`
}

func (s spec) encode() []byte {
	var o jsonrpc.Object
	o.Set("server", jsonrpc.String(s.Server))
	if s.Request != nil {
		o.Set("request", s.Request)
	}
	return o.JSON()
}
