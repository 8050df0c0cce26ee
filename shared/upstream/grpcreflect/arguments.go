package grpcreflect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// call is a tools/call as it came.
type call struct {
	tool      string
	arguments json.RawMessage // an object
	meta      json.RawMessage // or nil
	// progress hears of a stream's messages; nil where nobody asked.
	progress upstream.Listener
	token    json.RawMessage
}

func parseCall(req upstream.Request, from upstream.Listener) (call, *jsonrpc.Error) {
	tool, ok := jsonrpc.GetString(req.Params, "name")
	if !ok {
		return call{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, `tools/call needs "name", the tool's name, as a string`)
	}
	c := call{tool: tool, arguments: jsonrpc.Get(req.Params, "arguments"), meta: jsonrpc.Get(req.Params, "_meta")}
	if c.arguments == nil || string(c.arguments) == "null" {
		c.arguments = json.RawMessage("{}")
	}
	if c.arguments[0] != '{' {
		return call{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, `"arguments" of tools/call must be an object`)
	}
	if c.token = jsonrpc.Get(c.meta, mcp.MetaProgressToken); c.token != nil {
		c.progress = from
	}
	return c, nil
}

// prepare finds the method and makes its request message. The method is nil where there is no such tool; the
// error else says, for the client, what is wrong with the arguments.
func (k *methods) prepare(c call) (*method, proto.Message, error) {
	m := k.tools[c.tool]
	if m == nil {
		return nil, nil, errors.New("unknown tool")
	}
	message, err := m.input.decode(c.arguments, k.types)
	if err != nil {
		return m, nil, err
	}
	return m, message, nil
}

// decode makes a message of arguments.
func (s shape) decode(arguments json.RawMessage, types types) (proto.Message, error) {
	message := dynamicpb.NewMessage(s.desc)
	if s.boxed {
		o, _ := jsonrpc.ParseObject(arguments)
		for _, key := range o.Keys() {
			if key != "value" {
				return nil, fmt.Errorf("%q is unknown; there is only \"value\"", shorten(key, maxName))
			}
		}
		if arguments = o.Get("value"); arguments == nil {
			return message, nil
		}
	}
	options := protojson.UnmarshalOptions{Resolver: types}
	err := options.Unmarshal(arguments, message)
	if err == nil {
		return message, nil
	}
	if !s.boxed {
		// Which fields are missing is for the end: here only those that are there are looked at.
		options.AllowPartial = true
		if precise := diagnose(s.desc, arguments, "", options, 0); precise != nil {
			return nil, precise
		}
	}
	return nil, errors.New(plain(err))
}

// diagnose finds the first argument that does not fit, for an error that names it by its path. It is run only
// on arguments that were refused.
func diagnose(desc protoreflect.MessageDescriptor, raw json.RawMessage, path string, options protojson.UnmarshalOptions, depth int) error {
	o, ok := jsonrpc.ParseObject(raw)
	if !ok || depth > 16 {
		return nil
	}
	if _, own := wellKnown[desc.FullName()]; own {
		return nil
	}
	for _, key := range o.Keys() {
		at := path + key
		f := fieldByName(desc, key)
		if f == nil {
			return fmt.Errorf("%s is unknown; %s", quote(at), takes(desc))
		}
		var alone jsonrpc.Object
		alone.Set(key, o.Get(key))
		err := options.Unmarshal(alone.JSON(), dynamicpb.NewMessage(desc))
		if err == nil {
			continue
		}
		if inner := diagnoseValue(f, o.Get(key), at, options, depth); inner != nil {
			return inner
		}
		return fmt.Errorf("%s must be %s (%s)", quote(at), form(f), plain(err))
	}
	return nil
}

// diagnoseValue looks into the value of a field that does not fit; nil where the value as a whole is wrong.
func diagnoseValue(f protoreflect.FieldDescriptor, value json.RawMessage, at string, options protojson.UnmarshalOptions, depth int) error {
	switch {
	case f.IsMap():
		if f.MapValue().Message() == nil {
			return nil
		}
		entries, _ := jsonrpc.ParseObject(value)
		for _, key := range entries.Keys() {
			if err := diagnose(f.MapValue().Message(), entries.Get(key), at+"."+key+".", options, depth+1); err != nil {
				return err
			}
		}
	case f.Message() == nil:
	case f.IsList():
		if value[0] != '[' {
			return nil
		}
		var found error
		i := 0
		jsonrpc.Elements(value, func(element []byte) bool {
			found = diagnose(f.Message(), element, fmt.Sprintf("%s[%d].", at, i), options, depth+1)
			i++
			return found == nil
		})
		return found
	default:
		return diagnose(f.Message(), value, at+".", options, depth+1)
	}
	return nil
}

func fieldByName(desc protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if f := desc.Fields().ByJSONName(key); f != nil {
		return f
	}
	return desc.Fields().ByTextName(key)
}

// takes names what a message has.
func takes(desc protoreflect.MessageDescriptor) string {
	var names []string
	for i := range min(desc.Fields().Len(), 64) {
		names = append(names, desc.Fields().Get(i).JSONName())
	}
	if len(names) == 0 {
		return "nothing is taken here"
	}
	return "there are " + shorten(strings.Join(names, ", "), maxComment)
}

// form says what a field's value must be.
func form(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return "an object of " + kindName(f.MapValue()) + " by key"
	case f.IsList():
		return "an array, each element " + kindName(f)
	}
	return kindName(f)
}

func kindName(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if known, ok := wellKnown[f.Message().FullName()]; ok {
			return known.takes
		}
		return "an object"
	case protoreflect.EnumKind:
		var names []string
		for i := range min(f.Enum().Values().Len(), 32) {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return "one of " + shorten(strings.Join(names, ", "), maxComment)
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "base64 in a string"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number"
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "an integer of 32 bits"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "an integer of 32 bits, not negative"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "an integer of 64 bits, not negative, best in a string"
	}
	return "an integer of 64 bits, best in a string"
}

// plain takes from a protobuf error what clients need not see: the library's prefix, and the blank in it that
// is sometimes one that does not break.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	if rest, ok := strings.CutPrefix(text, "(line "); ok {
		if _, after, ok := strings.Cut(rest, "): "); ok {
			text = after
		}
	}
	return shorten(text, maxComment)
}

func quote(path string) string { return `"` + shorten(path, 4*maxName) + `"` }
