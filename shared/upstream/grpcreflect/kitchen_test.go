package grpcreflect_test

// kitchen is a service with every sort of field.
const kitchen = `
syntax = "proto3";
package kitchen.v1;

import "buf/validate/validate.proto";
import "google/api/field_behavior.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

// Cooks whatever
// it is given.
//
// Kindly.
service Kitchen {
  // Gives back what it gets.
  rpc Echo(All) returns (All);
  rpc EchoTree(Tree) returns (Tree) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc EchoName(google.protobuf.StringValue) returns (google.protobuf.StringValue) { option idempotency_level = IDEMPOTENT; }
  rpc EchoAny(google.protobuf.Value) returns (google.protobuf.Value);
  rpc EchoStruct(google.protobuf.Struct) returns (google.protobuf.Struct);
  rpc Nothing(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc Stream(Tree) returns (stream Tree);
  rpc StreamNames(google.protobuf.StringValue) returns (stream google.protobuf.StringValue);
  rpc Upload(stream Tree) returns (Tree);
  rpc Chat(stream Tree) returns (stream Tree);
  rpc Ruled(Rules) returns (Rules) { option deprecated = true; }
}

// How hot.
enum Heat {
  HEAT_UNSPECIFIED = 0;
  // Barely.
  HEAT_LOW = 1;
  HEAT_HIGH = 2;
}

message All {
  // Thirty-two bits.
  int32 i32 = 1;
  int64 i64 = 2;
  uint32 u32 = 3;
  uint64 u64 = 4;
  sint32 s32 = 5;
  sint64 s64 = 6;
  fixed32 f32 = 7;
  fixed64 f64 = 8;
  sfixed64 sf64 = 9;
  float small_float = 10;
  double big = 11;
  bool yes = 12;
  string text = 13; // Said behind it.
  bytes raw = 14;
  Heat heat = 15;
  optional int32 maybe = 16;
  repeated int64 many = 17;
  map<string, Heat> heats = 18;
  map<int64, Leaf> leaves = 19;
  map<bool, string> by_bool = 20;
  // Which way.
  oneof way {
    string left = 21;
    Leaf right = 22;
    // Neither way.
    google.protobuf.Empty none = 23;
  }
  Leaf leaf = 24;
  google.protobuf.Timestamp at = 25;
  google.protobuf.Duration takes = 26;
  google.protobuf.Struct form = 27;
  google.protobuf.Value any_json = 28;
  google.protobuf.ListValue list = 29;
  google.protobuf.Any any = 30;
  google.protobuf.FieldMask mask = 31;
  google.protobuf.Int64Value wrapped = 32;
  google.protobuf.BytesValue wrapped_raw = 33;
  google.protobuf.NullValue nothing = 34;
  repeated Leaf more = 35;
  string renamed = 36 [json_name = "odd-name"];
  google.protobuf.DoubleValue wrapped_double = 37;
  Once once = 38;
}

message Leaf { string name = 1; uint64 weight = 2; }
message Once { Inner inner = 1; message Inner { repeated Heat heats = 1; } }

message Tree {
  string name = 1;
  repeated Tree children = 2;
  Branch branch = 3;
}
message Branch { Tree tree = 1; map<string, Branch> branches = 2; }

message Rules {
  string id = 1 [(buf.validate.field).required = true, (buf.validate.field).string = {min_len: 2, max_len: 5, pattern: "^[a-z]+$"}];
  int32 age = 2 [(buf.validate.field).int32 = {gte: 1, lt: 130}];
  repeated string tags = 3 [(buf.validate.field).repeated = {min_items: 1, max_items: 3, unique: true, items: {string: {max_len: 4}}}];
  map<string, double> shares = 4 [(buf.validate.field).map = {max_pairs: 2, values: {double: {gt: 0.5}}}];
  string mail = 5 [(buf.validate.field).string.email = true];
  string kind = 6 [(buf.validate.field).string = {in: ["a", "b"]}];
  string owner = 7 [(google.api.field_behavior) = REQUIRED];
  string etag = 8 [(google.api.field_behavior) = OUTPUT_ONLY, deprecated = true];
  int32 outside = 9 [(buf.validate.field).int32 = {gt: 10, lt: 5}];
  string folded = 10 [(buf.validate.field).string.pattern = "(?i)^x"];
  string skipped = 11 [(buf.validate.field).string.min_len = 9, (buf.validate.field).ignore = IGNORE_ALWAYS];
  oneof pick {
    option (buf.validate.oneof).required = true;
    string one = 12;
    string two = 13;
  }
}
`

var kitchenHandlers = map[string]handler{
	"Echo": echo, "EchoTree": echo, "EchoName": echo, "EchoAny": echo, "EchoStruct": echo, "Nothing": echo, "Ruled": echo,
	"Stream": echo, "StreamNames": echo,
}
