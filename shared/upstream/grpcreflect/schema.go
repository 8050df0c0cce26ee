package grpcreflect

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"erlmcp.dev/shared/jsonrpc"
)

// inputSchema returns the JSON Schema (2020-12) of a method's arguments.
func inputSchema(s shape) json.RawMessage {
	b := newSchema(s.desc, true)
	if s.boxed {
		return b.finish(boxed(wellKnown[s.desc.FullName()].in, true))
	}
	return b.finish(b.root(s.desc))
}

// outputSchema returns the JSON Schema of a method's structured result. Its type is always object.
func outputSchema(s shape, streams bool) json.RawMessage {
	b := newSchema(s.desc, false)
	if streams {
		b.refs[s.desc.FullName()]++ // it is not the root, so no "#" can stand for it
		var properties, list jsonrpc.Object
		list.Set("type", json.RawMessage(`"array"`))
		list.Set("items", b.message(s.desc, 1))
		properties.Set("messages", list.JSON())
		return b.finish(objectOf(properties, []string{"messages"}))
	}
	if s.boxed {
		return b.finish(boxed(wellKnown[s.desc.FullName()].out, false))
	}
	return b.finish(b.root(s.desc))
}

// boxed is the schema of an object whose member "value" is what the schema says.
func boxed(schema json.RawMessage, input bool) jsonrpc.Object {
	var properties jsonrpc.Object
	properties.Set("value", schema)
	if !input {
		return objectOf(properties, []string{"value"})
	}
	o := objectOf(properties, nil)
	o.Set("additionalProperties", json.RawMessage("false"))
	return o
}

func objectOf(properties jsonrpc.Object, required []string) jsonrpc.Object {
	var o jsonrpc.Object
	o.Set("type", json.RawMessage(`"object"`))
	o.Set("properties", properties.JSON())
	if len(required) > 0 {
		o.Set("required", jsonStrings(required))
	}
	return o
}

// schema builds one document. A message that is used once stands where it is used; others, and deep ones, stand
// in $defs, which also ends recursion. No combination (anyOf, oneOf, not) stands at the top, where many clients
// refuse one.
type schema struct {
	input   bool
	top     protoreflect.FullName
	refs    map[protoreflect.FullName]int
	defs    jsonrpc.Object
	started map[protoreflect.FullName]bool // has its place in defs
	left    int                            // bytes that names and structure may still take
	text    int                            // bytes that descriptions may still take
}

func newSchema(root protoreflect.MessageDescriptor, input bool) *schema {
	b := &schema{
		input: input, refs: map[protoreflect.FullName]int{root.FullName(): 1},
		started: map[protoreflect.FullName]bool{}, left: maxSchemaNames, text: maxSchemaText,
	}
	fields := 0
	queue := []protoreflect.MessageDescriptor{root}
	for len(queue) > 0 && len(b.refs) < maxSchemaTypes {
		m := queue[0]
		queue = queue[1:]
		if _, ok := wellKnown[m.FullName()]; ok {
			continue
		}
		for i := range m.Fields().Len() {
			if fields++; fields > maxSchemaNames {
				return b // far more than can be described
			}
			next := m.Fields().Get(i).Message()
			if next == nil {
				continue
			}
			if b.refs[next.FullName()]++; b.refs[next.FullName()] == 1 {
				queue = append(queue, next)
			}
		}
	}
	return b
}

// root describes the message that is the document itself.
func (b *schema) root(m protoreflect.MessageDescriptor) jsonrpc.Object {
	if known, ok := wellKnown[m.FullName()]; ok {
		o, _ := jsonrpc.ParseObject(known.schema(b.input))
		return o
	}
	b.top = m.FullName()
	return b.object(m, 0)
}

// finish adds the definitions, and gives up on a document that is too long.
func (b *schema) finish(o jsonrpc.Object) json.RawMessage {
	if b.defs.Len() > 0 {
		o.Set("$defs", b.defs.JSON())
	}
	if raw := o.JSON(); len(raw) <= maxSchemaBytes {
		return raw
	}
	return json.RawMessage(`{"type":"object","description":"The message is too large to be described."}`)
}

// message returns the schema for a place that holds m.
func (b *schema) message(m protoreflect.MessageDescriptor, depth int) json.RawMessage {
	name := m.FullName()
	known, ok := wellKnown[name]
	switch {
	case ok:
		return known.schema(b.input)
	case name == b.top:
		return json.RawMessage(`{"$ref":"#"}`)
	case b.refs[name] == 1 && depth <= maxInlineDepth:
		o := b.object(m, depth)
		return o.JSON()
	}
	if !b.started[name] {
		if b.left <= 0 || len(b.started) >= maxSchemaTypes {
			return json.RawMessage(`{"type":"object"}`)
		}
		b.started[name] = true
		b.defs.Set(string(name), nil) // keeps the order: outer before inner
		o := b.object(m, 0)
		b.defs.Set(string(name), o.JSON())
	}
	var o jsonrpc.Object
	o.Set("$ref", jsonrpc.String("#/$defs/"+string(name)))
	return o.JSON()
}

// object describes m's fields.
func (b *schema) object(m protoreflect.MessageDescriptor, depth int) jsonrpc.Object {
	for i := 0; i < m.Fields().Len() && b.left >= 0; i++ {
		b.left -= len(m.Fields().Get(i).JSONName()) + 48
	}
	if b.left < 0 {
		var open jsonrpc.Object
		open.Set("type", json.RawMessage(`"object"`))
		return open
	}
	var properties jsonrpc.Object
	var required []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		o, needed := b.field(f, depth+1)
		properties.Set(f.JSONName(), o.JSON())
		if needed {
			required = append(required, f.JSONName())
		}
	}
	o := objectOf(properties, required)
	if b.input {
		if only := b.oneofs(m); only.Len() > 0 {
			o.Set("dependentSchemas", only.JSON())
		}
		o.Set("additionalProperties", json.RawMessage("false"))
	}
	return o
}

// oneofs says, for each member of a oneof, that the others must be absent.
func (b *schema) oneofs(m protoreflect.MessageDescriptor) jsonrpc.Object {
	var rules jsonrpc.Object
	for i := range m.Oneofs().Len() {
		fields := m.Oneofs().Get(i).Fields()
		if fields.Len() < 2 || fields.Len() > maxOneofRules {
			continue
		}
		for j := range fields.Len() {
			var absent, rule jsonrpc.Object
			for k := range fields.Len() {
				if k != j {
					absent.Set(fields.Get(k).JSONName(), json.RawMessage("false"))
				}
			}
			rule.Set("properties", absent.JSON())
			rules.Set(fields.Get(j).JSONName(), rule.JSON())
		}
	}
	return rules
}

// field describes one field, and says whether it must be there.
func (b *schema) field(f protoreflect.FieldDescriptor, depth int) (o jsonrpc.Object, required bool) {
	required = f.Cardinality() == protoreflect.Required
	var rules fieldRules
	if b.input {
		rules = rulesOf(f)
		required = required || rules.required
	}
	switch {
	case f.IsMap():
		o.Set("type", json.RawMessage(`"object"`))
		if names := mapKeys(f.MapKey().Kind()); names != nil {
			o.Set("propertyNames", names)
		}
		value := b.value(f.MapValue(), depth)
		rules.values.applyTo(&value)
		o.Set("additionalProperties", value.JSON())
	case f.IsList():
		o.Set("type", json.RawMessage(`"array"`))
		item := b.value(f, depth)
		rules.items.applyTo(&item)
		o.Set("items", item.JSON())
	default:
		o = b.value(f, depth)
		if f.HasDefault() && f.Cardinality() != protoreflect.Repeated {
			if text := defaultJSON(f); text != nil {
				o.Set("default", text)
			}
		}
	}
	rules.own.applyTo(&o)
	if text := b.describe(f, o); text != "" {
		o.Set("description", jsonrpc.String(text))
	}
	if options, ok := f.Options().(*descriptorpb.FieldOptions); ok && options.GetDeprecated() {
		o.Set("deprecated", json.RawMessage("true"))
	}
	if rules.outputOnly {
		o.Set("readOnly", json.RawMessage("true"))
	}
	return o, required
}

// describe makes a field's description: its comment, what its form is, which others it excludes.
func (b *schema) describe(f protoreflect.FieldDescriptor, o jsonrpc.Object) string {
	var parts []string
	if text := comment(f, min(maxComment, b.text)); text != "" {
		parts = append(parts, text)
	}
	if form, ok := jsonrpc.GetString(o.Get("description")); ok {
		parts = append(parts, form)
	}
	if group := f.ContainingOneof(); b.input && group != nil && !group.IsSynthetic() && group.Fields().Len() > 1 {
		var names []string
		for i := range group.Fields().Len() {
			names = append(names, group.Fields().Get(i).JSONName())
		}
		rule := "At most one of "
		if oneofRequired(group) {
			rule = "Exactly one of "
		}
		parts = append(parts, shorten(rule+strings.Join(names, ", ")+".", maxComment))
	}
	text := strings.Join(parts, " ")
	if len(text) > b.text {
		return ""
	}
	b.text -= len(text)
	return text
}
