// Package trace makes OpenTelemetry traces of requests on their way from client to server: a span for each request that
// a client makes, one for each call between services, and one for each call of a server behind erlmcp. The trace travels
// in HTTP headers, in a message's _meta (SEP-414: traceparent and tracestate) and in gRPC metadata. It must not know what
// the requests mean.
//
// A nil *Tracer traces nothing and costs nothing. Start at [New].
package trace
