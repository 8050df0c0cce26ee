// Package grpcreflect makes tools of the methods of any gRPC service with server reflection (v1, or else
// v1alpha). It knows MCP's tools and protobuf's descriptors; it must not know sessions, clients or the
// catalogue.
//
// # Tools
//
// Each unary or server-streaming method is a tool. Methods whose client streams have no place in a single
// call; they are left out, and the log says so.
//
// A tool is named like its method ("PlaceOrder"). Where methods of several services share that name, each of
// them is named "<Service>_<Method>" instead, and where even that is taken, like the method in full
// ("shop.v1.Orders.Get"). So a name needs only its own descriptors to be the same in every process. A name
// beyond 64 bytes keeps its start and ends in eight hexadecimal digits of its SHA-256.
//
// Arguments and results follow protobuf's JSON mapping with lowerCamelCase names: 64-bit integers are strings
// in results and may be either in arguments. A request or response that is no JSON object in that mapping (a
// wrapper, a Timestamp) is the member "value" of one. A stream's result is {"messages": [...]}.
//
// # Where to start
//
// peer.go is the conversation. descriptors.go reads what the server says of itself, methods.go makes methods
// of it, tool.go and schema.go describe them to clients; arguments.go, call.go and result.go carry a call.
//
// A server may lie in all of it: everything that is read from one has a bound (limits.go).
package grpcreflect
