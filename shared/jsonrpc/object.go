package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects of a message may nest.
const MaxDepth = 256

// Check says whether data is exactly one JSON value, in UTF-8, nested at most MaxDepth deep; else ErrSyntax.
func Check(data []byte) error {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return fmt.Errorf("%w: it is empty", ErrSyntax)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: it is not UTF-8", ErrSyntax)
	}
	if tooDeep(data) {
		return fmt.Errorf("%w: it nests deeper than %d", ErrSyntax, MaxDepth)
	}
	if !json.Valid(data) {
		return ErrSyntax
	}
	return nil
}

// tooDeep counts brackets outside strings, so that a hostile depth costs one pass and no stack.
func tooDeep(data []byte) bool {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i) - 1
		case '{', '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// stringEnd returns the index behind the string that opens at i, or len(data) if it never closes.
func stringEnd(data []byte, i int) int {
	for i++; i < len(data); {
		q := bytes.IndexByte(data[i:], '"')
		if q < 0 {
			return len(data)
		}
		i += q + 1
		slashes := 0
		for j := i - 2; j >= 0 && data[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return len(data)
}

// valueEnd returns the index behind the value that starts at i of checked JSON.
func valueEnd(data []byte, i int) int {
	switch data[i] {
	case '"':
		return stringEnd(data, i)
	case '{', '[':
		depth := 0
		for ; i < len(data); i++ {
			switch data[i] {
			case '"':
				i = stringEnd(data, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(data)
	}
	for i < len(data) {
		switch data[i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

// each calls f with each member of the object at the start of checked JSON until f returns false. Keys are
// unescaped.
func each(data []byte, f func(key, value []byte) bool) {
	i := skipSpace(data, 1)
	for i < len(data) && data[i] == '"' {
		end := stringEnd(data, i)
		key := data[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			var s string
			_ = json.Unmarshal(data[i:end], &s) // checked JSON
			key = []byte(s)
		}
		i = skipSpace(data, skipSpace(data, end)+1) // behind the colon
		end = valueEnd(data, i)
		if !f(key, data[i:end:end]) {
			return
		}
		i = skipSpace(data, end)
		if i < len(data) && data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
}

// Elements calls f with each element of an array, checked JSON, until f returns false. What is no array has none.
func Elements(data []byte, f func(value []byte) bool) {
	if len(data) == 0 || data[0] != '[' {
		return
	}
	i := skipSpace(data, 1)
	for i < len(data) && data[i] != ']' {
		end := valueEnd(data, i)
		if !f(data[i:end:end]) {
			return
		}
		i = skipSpace(data, end)
		if i < len(data) && data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
}

// Get returns a member of the object data, which must be checked JSON, or nil where data is no object or has
// no such member. Several keys walk down nested objects.
func Get(data json.RawMessage, path ...string) json.RawMessage {
	for _, key := range path {
		if len(data) == 0 || data[0] != '{' {
			return nil
		}
		var found json.RawMessage
		each(data, func(k, v []byte) bool {
			if string(k) != key {
				return true
			}
			found = v
			return false
		})
		data = found
	}
	return data
}

// GetString returns a member that is a string, unescaped. ok is false where it is absent or no string.
func GetString(data json.RawMessage, path ...string) (s string, ok bool) {
	raw := Get(data, path...)
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// Object is a JSON object as an ordered list of members whose values stay as they came. It serves to change a
// few members of a message and pass the others on untouched. The zero Object is {}.
type Object struct {
	members []member
}

type member struct {
	key   string
	value json.RawMessage
}

// ParseObject reads checked JSON. ok is false where it is no object.
func ParseObject(data json.RawMessage) (o Object, ok bool) {
	if len(data) == 0 || data[0] != '{' {
		return o, false
	}
	each(data, func(k, v []byte) bool {
		o.members = append(o.members, member{string(k), v})
		return true
	})
	return o, true
}

// Get returns a member, or nil.
func (o *Object) Get(key string) json.RawMessage {
	for i := range o.members {
		if o.members[i].key == key {
			return o.members[i].value
		}
	}
	return nil
}

// Set replaces a member in its place, or appends it.
func (o *Object) Set(key string, value json.RawMessage) {
	for i := range o.members {
		if o.members[i].key == key {
			o.members[i].value = value
			return
		}
	}
	o.members = append(o.members, member{key, value})
}

// Delete removes a member.
func (o *Object) Delete(key string) {
	kept := o.members[:0]
	for _, m := range o.members {
		if m.key != key {
			kept = append(kept, m)
		}
	}
	o.members = kept
}

// Keys returns the members' names in order.
func (o *Object) Keys() []string {
	keys := make([]string, len(o.members))
	for i, m := range o.members {
		keys[i] = m.key
	}
	return keys
}

// Len is the number of members.
func (o *Object) Len() int { return len(o.members) }

// JSON encodes the object.
func (o *Object) JSON() json.RawMessage {
	n := 2
	for _, m := range o.members {
		n += len(m.key) + len(m.value) + 4
	}
	b := append(make([]byte, 0, n), '{')
	for i, m := range o.members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, m.key)
		b = append(b, ':')
		b = append(b, m.value...)
	}
	return append(b, '}')
}

// With returns data, an object or nil, with the member at path set; nested objects are made where missing.
func With(data json.RawMessage, value json.RawMessage, path ...string) json.RawMessage {
	o, _ := ParseObject(data)
	if len(path) > 1 {
		value = With(o.Get(path[0]), value, path[1:]...)
	}
	o.Set(path[0], value)
	return o.JSON()
}

// Without returns data, an object or nil, without the member at path.
func Without(data json.RawMessage, path ...string) json.RawMessage {
	o, ok := ParseObject(data)
	if !ok || o.Get(path[0]) == nil {
		return data
	}
	if len(path) > 1 {
		o.Set(path[0], Without(o.Get(path[0]), path[1:]...))
	} else {
		o.Delete(path[0])
	}
	return o.JSON()
}
