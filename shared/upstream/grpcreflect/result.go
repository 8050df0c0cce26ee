package grpcreflect

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"erlmcp.dev/shared/jsonrpc"
)

// errTooLarge: the answer's JSON would exceed the limit in bytes.
type errTooLarge struct{ limit int }

func (e errTooLarge) Error() string {
	return fmt.Sprintf("it is longer than %d bytes of JSON, the most that is passed on", e.limit)
}

var errTooDeep = fmt.Errorf("it nests deeper than %d messages", maxDepth)

// encoder writes messages as JSON.
type encoder struct {
	types types
	limit int
}

func (p *Peer) encoder(m *method) encoder { return encoder{m.types, p.config.MaxResult} }

// encode returns the message's JSON: an object, the same bytes for the same message. Fields without presence
// are written even where they are zero, since a model cannot know that an absent stock is an empty one.
func (e encoder) encode(s shape, message proto.Message) (json.RawMessage, error) {
	raw, err := e.json(message)
	if err == nil && s.boxed {
		raw = append(append([]byte(`{"value":`), raw...), '}')
	}
	return raw, err
}

func (e encoder) json(message proto.Message) (json.RawMessage, error) {
	// Two bytes of protobuf may be an empty message with a thousand fields, all written. So measure first.
	left := e.limit
	if err := e.measure(message.ProtoReflect(), &left, 0); err != nil {
		return nil, err
	}
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true, Resolver: lenient{e.types}}.Marshal(message)
	if err != nil {
		return nil, errors.New(plain(err))
	}
	if raw = compact(raw); len(raw) > e.limit {
		return nil, errTooLarge{e.limit}
	}
	return raw, nil
}

// measure takes from left what m's members cost at least: names, and the text of enums. The values themselves
// take a small multiple of what came over the wire.
func (e encoder) measure(m protoreflect.Message, left *int, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if name := m.Descriptor().FullName(); name == "google.protobuf.Any" {
		return e.measureAny(m, left, depth)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if *left -= len(fields.Get(i).JSONName()) + 4; *left < 0 {
			return errTooLarge{e.limit}
		}
	}
	var err error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if of := f.MapValue(); measured(of) {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = e.measureValue(of, v, left, depth)
					return err == nil
				})
			}
		case !measured(f):
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = e.measureValue(f, v.List().Get(i), left, depth)
			}
		default:
			err = e.measureValue(f, v, left, depth)
		}
		return err == nil
	})
	return err
}

// measured says whether a field's values may be longer as JSON than a small multiple of their protobuf.
func measured(f protoreflect.FieldDescriptor) bool { return f.Message() != nil || f.Enum() != nil }

func (e encoder) measureValue(f protoreflect.FieldDescriptor, v protoreflect.Value, left *int, depth int) error {
	if f.Message() != nil {
		return e.measure(v.Message(), left, depth+1)
	}
	if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
		*left -= len(value.Name())
	}
	if *left < 0 {
		return errTooLarge{e.limit}
	}
	return nil
}

// measureAny measures the message that an Any holds.
func (e encoder) measureAny(m protoreflect.Message, left *int, depth int) error {
	fields := m.Descriptor().Fields()
	url, value := fields.ByNumber(1), fields.ByNumber(2)
	if url == nil || value == nil || url.Kind() != protoreflect.StringKind || value.Kind() != protoreflect.BytesKind {
		return errors.New("its google.protobuf.Any is none")
	}
	held, err := e.types.FindMessageByURL(m.Get(url).String())
	if err != nil {
		return nil // shown by its name
	}
	inner := held.New()
	if err := (proto.UnmarshalOptions{AllowPartial: true, RecursionLimit: maxDepth}).Unmarshal(m.Get(value).Bytes(), inner.Interface()); err != nil {
		return errors.New(plain(err))
	}
	return e.measure(inner, left, depth+1)
}

// compact removes in place the blanks that protojson strews, on purpose differently in each build.
func compact(raw []byte) []byte {
	kept := raw[:0]
	inside := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '\\' && inside:
			kept = append(kept, c, raw[i+1])
			i++
			continue
		case c == '"':
			inside = !inside
		case c == ' ' && !inside:
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// result is a CallToolResult: body, an object, as text and as structure.
func result(body json.RawMessage) json.RawMessage {
	b := make([]byte, 0, 2*len(body)+len(body)/4+96)
	b = append(b, `{"content":[{"type":"text","text":`...)
	b = appendQuoted(b, body)
	b = append(b, `}],"structuredContent":`...)
	b = append(b, body...)
	return append(b, `,"resultType":"complete"}`...)
}

// errorResult is a CallToolResult that says what went wrong. status, or nil, goes into its _meta.
func errorResult(text string, status json.RawMessage) json.RawMessage {
	var o, meta jsonrpc.Object
	o.Set("content", json.RawMessage("["+textContent(text)+"]"))
	o.Set("isError", json.RawMessage("true"))
	o.Set("resultType", json.RawMessage(`"complete"`))
	if status != nil {
		meta.Set(metaStatus, status)
		o.Set("_meta", meta.JSON())
	}
	return o.JSON()
}

// withContent appends texts to a result's content.
func withContent(result json.RawMessage, texts ...string) json.RawMessage {
	content := jsonrpc.Get(result, "content")
	content = content[: len(content)-1 : len(content)-1]
	for _, text := range texts {
		content = append(content, ","+textContent(text)...)
	}
	return jsonrpc.With(result, append(content, ']'), "content")
}

func textContent(text string) string {
	return `{"type":"text","text":` + string(appendQuoted(nil, []byte(text))) + `}`
}

// appendQuoted appends text, in UTF-8, as a JSON string.
func appendQuoted(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i, c := range text {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, text[start:]...), '"')
}
