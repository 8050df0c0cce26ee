package grpcreflect

import (
	"encoding/json"

	"google.golang.org/grpc/metadata"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// traced are the keys of W3C trace context, which travel on to the service.
var traced = []string{"traceparent", "tracestate", "baggage"}

// outgoing is the metadata of one call: the configured one, and the trace that the call belongs to, from the
// request's headers or else its _meta. Configured keys are never overwritten.
func (p *Peer) outgoing(req upstream.Request, meta json.RawMessage) metadata.MD {
	outgoing := p.metadata
	for _, key := range traced {
		value := req.Headers.Get(key)
		if value == "" {
			value, _ = jsonrpc.GetString(meta, key)
		}
		if value == "" || len(p.metadata[key]) > 0 || !printable(value) {
			continue
		}
		if len(outgoing) == len(p.metadata) {
			outgoing = p.metadata.Copy()
		}
		outgoing.Set(key, value)
	}
	return outgoing
}

func printable(value string) bool {
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return false
		}
	}
	return len(value) <= 8192
}
