package grpcreflect

import (
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// special is a message with a JSON form of its own.
type special struct {
	in, out json.RawMessage // its schema in arguments and in results
	object  bool            // the form is always an object
	takes   string          // what the form is, for who got it wrong
}

func same(schema, takes string) special {
	return special{in: json.RawMessage(schema), out: json.RawMessage(schema), takes: takes}
}

func object(schema, takes string) special {
	s := same(schema, takes)
	s.object = true
	return s
}

// Schemas of numbers that JSON's own cannot always hold.
const (
	int64In   = `{"type":["integer","string"],"pattern":"^-?[0-9]+$"}`
	int64Out  = `{"type":"string","pattern":"^-?[0-9]+$"}`
	uint64In  = `{"type":["integer","string"],"minimum":0,"pattern":"^[0-9]+$"}`
	uint64Out = `{"type":"string","pattern":"^[0-9]+$"}`
	floatOut  = `{"anyOf":[{"type":"number"},{"enum":["NaN","Infinity","-Infinity"]}]}`
	bytesBoth = `{"type":"string","contentEncoding":"base64"}`
	int32Both = `{"type":"integer","minimum":-2147483648,"maximum":2147483647}`
	uintBoth  = `{"type":"integer","minimum":0,"maximum":4294967295}`
)

// wellKnown are the messages that protobuf's JSON mapping treats apart.
var wellKnown = map[protoreflect.FullName]special{
	"google.protobuf.Timestamp":   same(`{"type":"string","format":"date-time"}`, `a time such as "2026-01-02T15:04:05Z"`),
	"google.protobuf.Duration":    same(`{"type":"string","pattern":"^-?[0-9]+(\\.[0-9]{1,9})?s$","description":"Seconds, such as \"1.5s\"."}`, `seconds such as "1.5s"`),
	"google.protobuf.FieldMask":   same(`{"type":"string","description":"Names of fields, separated by commas."}`, `names of fields, separated by commas, in a string`),
	"google.protobuf.Struct":      object(`{"type":"object"}`, "an object"),
	"google.protobuf.Value":       same(`{}`, "any JSON"),
	"google.protobuf.ListValue":   same(`{"type":"array"}`, "an array"),
	"google.protobuf.Any":         object(`{"type":"object","properties":{"@type":{"type":"string","description":"URL of the message's type, such as \"type.googleapis.com/shop.v1.Order\"."}}}`, `an object with "@type"`),
	"google.protobuf.Empty":       {in: json.RawMessage(`{"type":"object","additionalProperties":false}`), out: json.RawMessage(`{"type":"object"}`), object: true, takes: "an empty object"},
	"google.protobuf.BoolValue":   same(`{"type":"boolean"}`, "true or false"),
	"google.protobuf.StringValue": same(`{"type":"string"}`, "a string"),
	"google.protobuf.BytesValue":  same(bytesBoth, "base64 in a string"),
	"google.protobuf.Int32Value":  same(int32Both, "an integer of 32 bits"),
	"google.protobuf.UInt32Value": same(uintBoth, "an integer of 32 bits, not negative"),
	"google.protobuf.Int64Value":  {in: json.RawMessage(int64In), out: json.RawMessage(int64Out), takes: "an integer of 64 bits, best in a string"},
	"google.protobuf.UInt64Value": {in: json.RawMessage(uint64In), out: json.RawMessage(uint64Out), takes: "an integer of 64 bits, not negative, best in a string"},
	"google.protobuf.FloatValue":  {in: json.RawMessage(`{"type":"number"}`), out: json.RawMessage(floatOut), takes: "a number"},
	"google.protobuf.DoubleValue": {in: json.RawMessage(`{"type":"number"}`), out: json.RawMessage(floatOut), takes: "a number"},
}

func (s special) schema(input bool) json.RawMessage {
	if input {
		return s.in
	}
	return s.out
}
