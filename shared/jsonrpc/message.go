package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Message is one JSON-RPC message. All fields but Method are JSON as it came; absent ones are nil.
type Message struct {
	ID     json.RawMessage // string or number; nil in a notification
	Method string          // empty in a response
	Params json.RawMessage // object, or nil
	Result json.RawMessage
	Error  json.RawMessage // object
}

// IsRequest reports whether an answer is due.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != nil }

// IsNotification reports whether the message is one-way.
func (m *Message) IsNotification() bool { return m.Method != "" && m.ID == nil }

// IsResponse reports whether the message answers a request.
func (m *Message) IsResponse() bool { return m.Method == "" }

// Errors of [Parse]. They wrap nothing of the input, so they may be shown to the peer.
var (
	// ErrSyntax: not one JSON value in UTF-8, or nested deeper than [MaxDepth]. Answered with CodeParse.
	ErrSyntax = errors.New("not valid JSON")
	// ErrBatch: an array. Whoever allows batches uses [Batch] first.
	ErrBatch = errors.New("batches are not allowed")
	// ErrShape: JSON, but no JSON-RPC 2.0 message. Answered with CodeInvalidRequest.
	ErrShape = errors.New("not a JSON-RPC 2.0 message")
)

// Parse reads one message. The message keeps parts of data, which must not change while it is used.
// Where the error is ErrShape the ID is set all the same if it could be read, so that an answer can name it.
func Parse(data []byte) (Message, error) {
	var m Message
	if err := Check(data); err != nil {
		return m, err
	}
	data = bytes.TrimSpace(data)
	if data[0] == '[' {
		return m, ErrBatch
	}
	if data[0] != '{' {
		return m, fmt.Errorf("%w: it must be an object", ErrShape)
	}
	var version, method json.RawMessage
	seen := 0
	each(data, func(key, value []byte) bool {
		bit := 0
		switch string(key) {
		case "jsonrpc":
			version, bit = value, 1
		case "id":
			m.ID, bit = value, 2
		case "method":
			method, bit = value, 4
		case "params":
			m.Params, bit = value, 8
		case "result":
			m.Result, bit = value, 16
		case "error":
			m.Error, bit = value, 32
		}
		if seen&bit != 0 {
			seen |= 1 << 10
		}
		seen |= bit
		return true
	})
	id := m.ID
	if id != nil && !validID(id) {
		m.ID = nil
	}
	switch {
	case seen&(1<<10) != 0:
		return m, fmt.Errorf("%w: a member stands twice", ErrShape)
	case string(version) != `"2.0"`:
		return m, fmt.Errorf(`%w: "jsonrpc" must be "2.0"`, ErrShape)
	case method != nil:
		if err := json.Unmarshal(method, &m.Method); err != nil || m.Method == "" {
			return m, fmt.Errorf(`%w: "method" must be a string`, ErrShape)
		}
		if id != nil && m.ID == nil {
			return m, fmt.Errorf(`%w: "id" must be a string or an integer`, ErrShape)
		}
		if m.Result != nil || m.Error != nil {
			return m, fmt.Errorf("%w: a request has no result or error", ErrShape)
		}
		if m.Params != nil && m.Params[0] != '{' {
			return m, fmt.Errorf(`%w: "params" must be an object`, ErrShape)
		}
		if m.Params != nil && ambiguous(m.Params) {
			return m, fmt.Errorf(`%w: a member of "params" stands twice`, ErrShape)
		}
	default:
		if (m.Result == nil) == (m.Error == nil) {
			return m, fmt.Errorf(`%w: it needs a "method", or one of "result" and "error"`, ErrShape)
		}
		if m.Error != nil && m.Error[0] != '{' {
			return m, fmt.Errorf(`%w: "error" must be an object`, ErrShape)
		}
		if m.ID == nil && (m.Error == nil || (id != nil && string(id) != "null")) {
			return m, fmt.Errorf(`%w: a response needs the request's "id"`, ErrShape)
		}
	}
	return m, nil
}

// ambiguous reports whether a member that decides where a request goes stands twice: of params, of its "_meta" or of
// its "ref". Readers differ in which of the two they take, so one that was checked here need not be the one that a
// server acts on. What is deeper is the server's alone.
func ambiguous(params []byte) bool {
	var inner [][]byte
	if repeats(params, func(key, value []byte) {
		if value[0] == '{' && (string(key) == "_meta" || string(key) == "ref") {
			inner = append(inner, value)
		}
	}) {
		return true
	}
	for _, object := range inner {
		if repeats(object, func(_, _ []byte) {}) {
			return true
		}
	}
	return false
}

// repeats calls f with each member of an object, until one stands a second time.
func repeats(object []byte, f func(key, value []byte)) (again bool) {
	var few [16][]byte
	keys, many := few[:0], map[string]struct{}(nil)
	each(object, func(key, value []byte) bool {
		if many == nil && len(keys) == len(few) {
			many = make(map[string]struct{}, 2*len(few))
			for _, k := range keys {
				many[string(k)] = struct{}{}
			}
		}
		if many == nil {
			again = slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
			keys = append(keys, key)
		} else {
			_, again = many[string(key)]
			many[string(key)] = struct{}{}
		}
		f(key, value)
		return !again
	})
	return again
}

// Batch splits an array into its elements. ok is false when data is not an array; err is ErrSyntax or,
// for an empty array, ErrShape.
func Batch(data []byte) (elements []json.RawMessage, ok bool, err error) {
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) == 0 || t[0] != '[' {
		return nil, false, nil
	}
	if err := Check(data); err != nil {
		return nil, true, err
	}
	Elements(bytes.TrimSpace(data), func(value []byte) bool {
		elements = append(elements, value)
		return true
	})
	if len(elements) == 0 {
		return nil, true, fmt.Errorf("%w: the batch is empty", ErrShape)
	}
	return elements, true, nil
}

// validID says whether raw is a string or an integer, as MCP asks.
func validID(raw []byte) bool {
	switch c := raw[0]; {
	case c == '"':
		return true
	case c == '-' || c >= '0' && c <= '9':
		return !bytes.ContainsAny(raw, ".eE")
	}
	return false
}

// Request encodes a request; with a nil id a notification. params may be nil.
func Request(id json.RawMessage, method string, params json.RawMessage) []byte {
	b := make([]byte, 0, 48+len(id)+len(method)+len(params))
	b = append(b, `{"jsonrpc":"2.0"`...)
	if id != nil {
		b = append(b, `,"id":`...)
		b = append(b, id...)
	}
	b = append(b, `,"method":`...)
	b = appendString(b, method)
	if params != nil {
		b = append(b, `,"params":`...)
		b = append(b, params...)
	}
	return append(b, '}')
}

// Response encodes a successful answer.
func Response(id, result json.RawMessage) []byte {
	b := make([]byte, 0, 36+len(id)+len(result))
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, id...)
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, '}')
}

// ErrorResponse encodes a failed answer. With a nil id, one that could not be read, the id is left out.
func ErrorResponse(id, errorObject json.RawMessage) []byte {
	b := make([]byte, 0, 36+len(id)+len(errorObject))
	b = append(b, `{"jsonrpc":"2.0"`...)
	if id != nil {
		b = append(b, `,"id":`...)
		b = append(b, id...)
	}
	b = append(b, `,"error":`...)
	b = append(b, errorObject...)
	return append(b, '}')
}

// IntID encodes a number as an id.
func IntID(n int64) json.RawMessage { return strconv.AppendInt(nil, n, 10) }

// String encodes s as a JSON string.
func String(s string) json.RawMessage { return appendString(nil, s) }

func appendString(b []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	q, _ := json.Marshal(s) // a string always encodes
	return append(b, q...)
}
