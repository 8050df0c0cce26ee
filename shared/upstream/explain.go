package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	because := ""
	if told, ok := errors.AsType[*ToldError](err); ok {
		because = ": " + told.Reason
	}
	switch {
	case errors.As(err, &refused):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q answered with HTTP status %d instead of MCP; its operator should look at it", server, refused.Status)
	case errors.Is(err, ErrNotSent), errors.Is(err, ErrSessionGone):
		return NotSent(fmt.Sprintf("server %q can't be reached%s; nothing was done, try again later", server, because))
	case errors.Is(err, ErrTooLarge):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q sent an answer beyond the size limit", server)
	case errors.Is(err, ErrRefused):
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q sent something that is no MCP answer; its operator should look at it", server)
	case errors.Is(err, context.DeadlineExceeded):
		return Lost(fmt.Sprintf("server %q did not answer in time; whether the call was carried out is unknown", server))
	}
	return Lost(fmt.Sprintf("the answer of server %q was lost%s; whether the call was carried out is unknown", server, because))
}

// NotSent is the error of a call that was certainly not carried out.
func NotSent(message string) *jsonrpc.Error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: message, Data: notSent}
}

// Lost is the error of a call of which nobody knows whether it was carried out.
func Lost(message string) *jsonrpc.Error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: message, Data: unknown}
}
