package grpcreflect

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"erlmcp.dev/shared/jsonrpc"
)

// fieldRules are what options say of a field: protovalidate's rules and Google's field behaviour. The service
// enforces them; here they only tell clients beforehand.
type fieldRules struct {
	required   bool
	outputOnly bool
	own        constraint // of the field
	items      constraint // of a list's elements
	values     constraint // of a map's values
}

// constraint is a set of keywords for a schema.
type constraint struct{ jsonrpc.Object }

func (c constraint) applyTo(o *jsonrpc.Object) {
	if o.Get("$ref") != nil {
		return // rules about a message's own members stand there
	}
	for _, key := range c.Keys() {
		o.Set(key, c.Get(key))
	}
}

func rulesOf(f protoreflect.FieldDescriptor) (r fieldRules) {
	options := f.Options()
	if options == nil || !options.ProtoReflect().IsValid() {
		return r
	}
	if behaviours, ok := proto.GetExtension(options, annotations.E_FieldBehavior).([]annotations.FieldBehavior); ok {
		for _, behaviour := range behaviours {
			switch behaviour {
			case annotations.FieldBehavior_REQUIRED:
				r.required = true
			case annotations.FieldBehavior_OUTPUT_ONLY:
				r.outputOnly = true
			}
		}
	}
	rules, ok := proto.GetExtension(options, validate.E_Field).(*validate.FieldRules)
	if !ok || rules == nil || rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
		return r
	}
	r.required = r.required || rules.GetRequired()
	if rules.GetIgnore() != validate.Ignore_IGNORE_UNSPECIFIED {
		return r // the zero value is allowed whatever the rules say; a schema would deny it
	}
	switch {
	case f.IsMap():
		of := rules.GetMap()
		r.own.count("minProperties", of.MinPairs)
		r.own.count("maxProperties", of.MaxPairs)
		r.values = constraintOf(of.GetValues())
	case f.IsList():
		of := rules.GetRepeated()
		r.own.count("minItems", of.MinItems)
		r.own.count("maxItems", of.MaxItems)
		if of.GetUnique() {
			r.own.Set("uniqueItems", json.RawMessage("true"))
		}
		r.items = constraintOf(of.GetItems())
	default:
		r.own = constraintOf(rules)
	}
	return r
}

// oneofRequired says whether one member must be set.
func oneofRequired(group protoreflect.OneofDescriptor) bool {
	options := group.Options()
	if options == nil || !options.ProtoReflect().IsValid() {
		return false
	}
	rules, _ := proto.GetExtension(options, validate.E_Oneof).(*validate.OneofRules)
	return rules.GetRequired()
}

func (c *constraint) count(keyword string, n *uint64) {
	if n != nil {
		c.Set(keyword, strconv.AppendUint(nil, *n, 10))
	}
}

// constraintOf translates the rules of one value. Rules without a counterpart in JSON Schema are left to the
// service.
func constraintOf(rules *validate.FieldRules) (c constraint) {
	if rules == nil {
		return c
	}
	switch of := rules.GetType().(type) {
	case *validate.FieldRules_String_:
		c.text(of.String_)
	case *validate.FieldRules_Bytes, *validate.FieldRules_Bool, *validate.FieldRules_Enum, *validate.FieldRules_Any,
		*validate.FieldRules_Duration, *validate.FieldRules_Timestamp, *validate.FieldRules_Map, *validate.FieldRules_Repeated, nil:
	default:
		// The rules of all kinds of numbers have the same names.
		m := rules.ProtoReflect()
		if set := m.WhichOneof(m.Descriptor().Oneofs().ByName("type")); set != nil && set.Message() != nil {
			c.number(m.Get(set).Message())
		}
	}
	return c
}

func (c *constraint) text(rules *validate.StringRules) {
	c.count("minLength", rules.MinLen)
	c.count("maxLength", rules.MaxLen)
	if rules.Len != nil {
		c.count("minLength", rules.Len)
		c.count("maxLength", rules.Len)
	}
	if rules.Pattern != nil && portable(rules.GetPattern()) {
		c.Set("pattern", jsonrpc.String(rules.GetPattern()))
	}
	if len(rules.GetIn()) > 0 {
		c.Set("enum", jsonStrings(rules.GetIn()))
	}
	if rules.Const != nil {
		c.Set("const", jsonrpc.String(rules.GetConst()))
	}
	for format, asked := range map[string]bool{
		"email": rules.GetEmail(), "hostname": rules.GetHostname(), "ipv4": rules.GetIpv4(), "ipv6": rules.GetIpv6(),
		"uri": rules.GetUri(), "uri-reference": rules.GetUriRef(), "uuid": rules.GetUuid(),
	} {
		if asked { // a oneof: at most one is
			c.Set("format", jsonrpc.String(format))
		}
	}
}

// portable says whether an RE2 expression means the same in ECMA-262, which JSON Schema uses.
func portable(pattern string) bool {
	for _, own := range []string{"(?", `\A`, `\z`, `\Q`, `\C`, `\p`, `\P`, `\pN`, "[[:", `\a`} {
		if strings.Contains(pattern, own) {
			return false
		}
	}
	return true
}

func (c *constraint) number(rules protoreflect.Message) {
	get := func(name protoreflect.Name) (json.RawMessage, bool) {
		f := rules.Descriptor().Fields().ByName(name)
		if f == nil || f.IsList() || !rules.Has(f) {
			return nil, false
		}
		return numberJSON(f.Kind(), rules.Get(f))
	}
	low, lowSet := firstOf(get, "gte", "gt")
	high, highSet := firstOf(get, "lte", "lt")
	if lowSet && highSet && above(low, high) {
		return // the allowed values lie outside, which no keyword says
	}
	for _, k := range []struct {
		rule    protoreflect.Name
		keyword string
	}{{"gte", "minimum"}, {"gt", "exclusiveMinimum"}, {"lte", "maximum"}, {"lt", "exclusiveMaximum"}} {
		if n, ok := get(k.rule); ok {
			c.Set(k.keyword, n)
		}
	}
}

func firstOf(get func(protoreflect.Name) (json.RawMessage, bool), names ...protoreflect.Name) (json.RawMessage, bool) {
	for _, name := range names {
		if n, ok := get(name); ok {
			return n, true
		}
	}
	return nil, false
}

func above(low, high json.RawMessage) bool {
	a, _ := strconv.ParseFloat(string(low), 64)
	b, _ := strconv.ParseFloat(string(high), 64)
	return a > b
}

func numberJSON(kind protoreflect.Kind, v protoreflect.Value) (json.RawMessage, bool) {
	switch kind {
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if n := v.Float(); !math.IsNaN(n) && !math.IsInf(n, 0) {
			return strconv.AppendFloat(nil, n, 'g', -1, 64), true
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(nil, v.Int(), 10), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(nil, v.Uint(), 10), true
	}
	return nil, false
}
