package jsonrpc

import (
	"encoding/json"
	"fmt"
)

// Codes that JSON-RPC 2.0 defines.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Error is a JSON-RPC error object. Message is shown to clients: what failed, why, what to do.
type Error struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// JSON encodes the error object.
func (e *Error) JSON() json.RawMessage {
	b, err := json.Marshal(e)
	if err != nil { // Data is not JSON: a bug of ours, and still the peer gets an answer
		b, _ = json.Marshal(&Error{Code: e.Code, Message: e.Message})
	}
	return b
}

// Errorf makes an error.
func Errorf(code int64, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ParseError decodes an error object; one that is malformed becomes CodeInternal.
func ParseError(raw json.RawMessage) *Error {
	var e Error
	if err := json.Unmarshal(raw, &e); err != nil {
		return Errorf(CodeInternal, "the peer sent a malformed error object")
	}
	return &e
}
