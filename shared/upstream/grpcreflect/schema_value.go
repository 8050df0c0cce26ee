package grpcreflect

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"erlmcp.dev/shared/jsonrpc"
)

// value describes one value of a field: an element of a list, a value of a map.
func (b *schema) value(f protoreflect.FieldDescriptor, depth int) (o jsonrpc.Object) {
	raw := ""
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		raw = string(b.message(f.Message(), depth))
	case protoreflect.EnumKind:
		return b.enum(f.Enum())
	default:
		raw = scalarSchema(f.Kind(), b.input)
	}
	o, _ = jsonrpc.ParseObject(json.RawMessage(raw))
	return o
}

func scalarSchema(kind protoreflect.Kind, input bool) string {
	switch kind {
	case protoreflect.BoolKind:
		return `{"type":"boolean"}`
	case protoreflect.StringKind:
		return `{"type":"string"}`
	case protoreflect.BytesKind:
		return bytesBoth
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return int32Both
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return uintBoth
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if input {
			return int64In
		}
		return int64Out
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if input {
			return uint64In
		}
		return uint64Out
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if input {
			return `{"type":"number"}`
		}
		return floatOut
	}
	return `{}`
}

// enum describes an enumeration by its names. Results may hold a number that has no name yet, unless the
// enumeration is closed.
func (b *schema) enum(e protoreflect.EnumDescriptor) (o jsonrpc.Object) {
	if e.FullName() == "google.protobuf.NullValue" {
		o.Set("type", json.RawMessage(`"null"`))
		return o
	}
	for i := 0; i < e.Values().Len() && b.left >= 0; i++ {
		b.left -= len(e.Values().Get(i).Name()) + 3
	}
	if b.left < 0 {
		o.Set("type", json.RawMessage(`["string","integer"]`))
		return o
	}
	names := make([]string, e.Values().Len())
	for i := range names {
		names[i] = string(e.Values().Get(i).Name())
	}
	o.Set("type", json.RawMessage(`"string"`))
	o.Set("enum", jsonStrings(names))
	notes := b.enumNotes(e)
	if !b.input && !e.IsClosed() {
		var either jsonrpc.Object
		either.Set("anyOf", json.RawMessage("["+string(o.JSON())+`,{"type":"integer"}]`))
		o = either
	}
	if notes != "" {
		o.Set("description", jsonrpc.String(notes))
	}
	return o
}

// enumNotes lists what the source says of an enumeration's values.
func (b *schema) enumNotes(e protoreflect.EnumDescriptor) string {
	var notes []string
	size := 0
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if text := comment(v, maxComment/4); text != "" {
			note := fmt.Sprintf("%s: %s", v.Name(), text)
			if size += len(note); size > maxComment {
				break
			}
			notes = append(notes, note)
		}
	}
	return strings.Join(notes, " ")
}

func mapKeys(kind protoreflect.Kind) json.RawMessage {
	switch kind {
	case protoreflect.StringKind:
		return nil
	case protoreflect.BoolKind:
		return json.RawMessage(`{"enum":["true","false"]}`)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return json.RawMessage(`{"pattern":"^[0-9]+$"}`)
	}
	return json.RawMessage(`{"pattern":"^-?[0-9]+$"}`)
}

// defaultJSON returns the default that a proto2 field declares, where JSON can tell it plainly.
func defaultJSON(f protoreflect.FieldDescriptor) json.RawMessage {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(nil, f.Default().Bool())
	case protoreflect.StringKind:
		return jsonrpc.String(shorten(f.Default().String(), maxComment))
	case protoreflect.EnumKind:
		if v := f.DefaultEnumValue(); v != nil {
			return jsonrpc.String(string(v.Name()))
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(nil, f.Default().Int(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return jsonrpc.String(strconv.FormatInt(f.Default().Int(), 10))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(nil, f.Default().Uint(), 10)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return jsonrpc.String(strconv.FormatUint(f.Default().Uint(), 10))
	}
	return nil
}

func jsonStrings(all []string) json.RawMessage {
	raw, _ := json.Marshal(all) // strings always encode
	return raw
}
