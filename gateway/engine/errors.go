package engine

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// parseError is what a client is told of bytes that are no message.
func parseError(err error) *jsonrpc.Error {
	code := int64(jsonrpc.CodeInvalidRequest)
	if errors.Is(err, jsonrpc.ErrSyntax) {
		code = jsonrpc.CodeParse
	}
	return &jsonrpc.Error{Code: code, Message: err.Error()}
}

// serverError is what a client is told when a server did not answer, with the HTTP status that goes with it.
func serverError(server string, err error) (*jsonrpc.Error, int) {
	if errors.Is(err, context.DeadlineExceeded) {
		return upstream.Explain(server, err), http.StatusGatewayTimeout
	}
	return upstream.Explain(server, err), http.StatusBadGateway
}

// outcomeUnknown is the data of an error that leaves open whether a call was carried out.
var outcomeUnknown = json.RawMessage(`{"` + upstream.OutcomeKey + `":"unknown"}`)

// ownerError is what a client is told when an owner refuses or fails.
func ownerError(err error) (*jsonrpc.Error, int) {
	s := status.Convert(err)
	switch s.Code() {
	case codes.NotFound:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "session not found; initialize a new one"), http.StatusNotFound
	case codes.ResourceExhausted:
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", s.Message()), http.StatusServiceUnavailable
	case codes.InvalidArgument:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s", s.Message()), http.StatusBadRequest
	case codes.DeadlineExceeded, codes.Canceled:
		return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: "the session's owner did not answer in time; whether the call was carried out is unknown", Data: outcomeUnknown}, http.StatusGatewayTimeout
	}
	return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: "the session service can't be reached; try again shortly", Data: outcomeUnknown}, http.StatusServiceUnavailable
}
