package engine

import (
	"context"
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
		return upstream.Lost("the session's owner did not answer in time; whether the call was carried out is unknown"), http.StatusGatewayTimeout
	}
	if certain(err) {
		return upstream.NotSent("the session service can't be reached; nothing was done, try again shortly"), http.StatusServiceUnavailable
	}
	// With 200, so that clients that look no further than the status tell what the error says.
	return upstream.Lost("the call was lost with the process that carried it out; whether it was done is unknown"), http.StatusOK
}

// openError is what a client is told when no session can be opened for it.
func openError(err error) *jsonrpc.Error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.ResourceExhausted:
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "%s", s.Message())
	case codes.InvalidArgument:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s", s.Message())
	}
	return upstream.NotSent("no session can be opened now; try again shortly")
}
