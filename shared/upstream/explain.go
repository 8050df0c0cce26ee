package upstream

import (
	"context"
	"encoding/json"
	"errors"

	"erlmcp.dev/shared/jsonrpc"
)

// OutcomeKey is the member of an error's data that says whether a call without an answer was carried out:
// "not_sent", so that it may be sent again, or "unknown".
const OutcomeKey = "dev.erlmcp/outcome"

var (
	notSent = json.RawMessage(`{"` + OutcomeKey + `":"not_sent"}`)
	unknown = json.RawMessage(`{"` + OutcomeKey + `":"unknown"}`)
)

// Explain says to a client why a call to a server brought no answer, and what became of it. err is what
// [Peer.Call] returned.
func Explain(server string, err error) *jsonrpc.Error {
	var refused *StatusError
	switch {
	case errors.As(err, &refused):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q answered with HTTP status %d instead of MCP; its operator should look at it", server, refused.Status)
	case errors.Is(err, ErrNotSent), errors.Is(err, ErrSessionGone):
		e := jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q can't be reached; nothing was done, try again later", server)
		e.Data = notSent
		return e
	case errors.Is(err, ErrTooLarge):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q sent an answer beyond the size limit", server)
	case errors.Is(err, ErrRefused):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q sent something that is no MCP answer; its operator should look at it", server)
	case errors.Is(err, context.DeadlineExceeded):
		e := jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q did not answer in time; whether the call was carried out is unknown", server)
		e.Data = unknown
		return e
	}
	e := jsonrpc.Errorf(jsonrpc.CodeInternal, "the answer of server %q was lost; whether the call was carried out is unknown", server)
	e.Data = unknown
	return e
}
