package grpcreflect

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// Describe reads the server's descriptors and returns what it offers: its tools, no eras (it serves both). The
// offer is the caller's. Errors are those of Call; ErrRefused also where the descriptors exceed a limit.
func (p *Peer) Describe(ctx context.Context) (*registryv1.Offer, error) {
	known, err := p.read(ctx, p.methods.Load())
	if err != nil {
		return nil, err
	}
	offer, err := known.offer()
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w: %w", p.config.Target, upstream.ErrRefused, err)
	}
	return proto.CloneOf(offer), nil
}

func (k *methods) describe(target string) (*registryv1.Offer, error) {
	offer := &registryv1.Offer{
		Capabilities: []byte(`{"tools":{}}`),
		ServerInfo:   k.serverInfo(target),
		Instructions: k.instructions(),
	}
	size := 0
	for _, m := range k.sorted() {
		item := &registryv1.Item{Key: m.tool, Json: m.describe()}
		if size += len(item.Json); size > maxOfferBytes {
			return nil, fmt.Errorf("the descriptions of its methods are longer than %d MiB; name the services to offer", maxOfferBytes>>20)
		}
		offer.Tools = append(offer.Tools, item)
	}
	return offer, nil
}

// serverInfo is the Implementation object. gRPC services have no version; that of the descriptors changes when
// what they offer does.
func (k *methods) serverInfo(target string) json.RawMessage {
	name := target
	if len(k.services) == 1 {
		name = string(k.services[0].FullName())
	}
	var o jsonrpc.Object
	o.Set("name", jsonrpc.String(name))
	o.Set("version", jsonrpc.String(k.digest))
	return o.JSON()
}

// instructions are what the source says of the services.
func (k *methods) instructions() string {
	var parts []string
	for _, service := range k.services {
		if text := comment(service, maxToolComment); text != "" {
			if len(k.services) > 1 {
				text = string(service.FullName()) + ": " + text
			}
			parts = append(parts, text)
		}
	}
	return shorten(strings.Join(parts, "\n\n"), maxInstructions)
}

// describe is the tool's JSON.
func (m *method) describe() json.RawMessage {
	var o jsonrpc.Object
	o.Set("name", jsonrpc.String(m.tool))
	o.Set("title", jsonrpc.String(sentence(words(string(m.desc.Name())))))
	o.Set("description", jsonrpc.String(m.description()))
	o.Set("inputSchema", inputSchema(m.input))
	o.Set("outputSchema", outputSchema(m.output, m.streams))
	if hints := m.annotations(); hints != nil {
		o.Set("annotations", hints)
	}
	return o.JSON()
}

func (m *method) description() string {
	text := comment(m.desc, maxToolComment)
	if text == "" {
		text = fmt.Sprintf("Calls the gRPC method %s.", m.desc.FullName())
	}
	if m.streams {
		text += "\n\nThe server streams its answer: each message is reported as progress, and the result has all of them."
	}
	if options, ok := m.desc.Options().(*descriptorpb.MethodOptions); ok && options.GetDeprecated() {
		text += "\n\nDeprecated."
	}
	return text
}

// annotations are MCP's hints, as far as the method's idempotency_level says something.
func (m *method) annotations() json.RawMessage {
	switch m.idempotency() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return json.RawMessage(`{"readOnlyHint":true,"idempotentHint":true}`)
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return json.RawMessage(`{"idempotentHint":true}`)
	}
	return nil
}
