package trace

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/otlp"
	"erlmcp.dev/shared/upstream"
)

// Config is where traces go.
type Config struct {
	Collector otlp.Collector
	// Sampling is the part of traces that is kept, 0 to 1, where the client did not decide.
	Sampling float64
}

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
}

// New makes a Tracer whose Close must follow. It does not wait for the collector: spans that it does not take are dropped
// once too many wait. What the OTEL_EXPORTER_OTLP_* variables say beside the endpoint holds.
func New(ctx context.Context, c Config) (*Tracer, error) {
	exporter, err := spanExporter(ctx, c.Collector)
	if err != nil {
		return nil, fmt.Errorf("preparing traces: %w", err)
	}
	about, err := c.Collector.Resource(ctx)
	if err != nil {
		return nil, err
	}
	p := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter), sdk.WithResource(about),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(c.Sampling))),
	)
	return &Tracer{provider: p, tracer: p.Tracer("erlmcp.dev")}, nil
}

func spanExporter(ctx context.Context, to otlp.Collector) (sdk.SpanExporter, error) {
	url := to.URL(otlp.Traces)
	if to.HTTP {
		var options []otlptracehttp.Option
		if url != "" {
			options = append(options, otlptracehttp.WithEndpointURL(url))
		}
		return otlptracehttp.New(ctx, options...)
	}
	var options []otlptracegrpc.Option
	if url != "" {
		options = append(options, otlptracegrpc.WithEndpointURL(url))
	}
	return otlptracegrpc.New(ctx, options...)
}

// closeTime is how long the last spans may take to be sent.
const closeTime = 5 * time.Second

// Close sends what waits.
func (t *Tracer) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}

// Span is one step on a request's way. A nil one records nothing.
type Span struct{ span trace.Span }

// Named says what the request was for: the server behind, and the tool or prompt.
func (s *Span) Named(server, name string) {
	if s == nil || server == "" {
		return
	}
	s.span.SetAttributes(attribute.String("erlmcp.server", server))
	if name != "" {
		s.span.SetAttributes(attribute.String("gen_ai.tool.name", name))
	}
}

// End ends the step. message says what went wrong; empty where nothing did.
func (s *Span) End(message string) {
	if s == nil {
		return
	}
	if message != "" {
		s.span.SetStatus(codes.Error, message)
	}
	s.span.End()
}

// Keys of trace context: in HTTP headers, _meta and gRPC metadata.
const (
	parentKey = "traceparent"
	stateKey  = "tracestate"
)

// maxState is the longest tracestate that is taken from a client, in bytes.
const maxState = 512

// carrier is a trace context on its way.
type carrier struct{ parent, state string }

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(key string) string {
	switch key {
	case parentKey:
		return c.parent
	case stateKey:
		return c.state
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) {
	switch key {
	case parentKey:
		c.parent = value
	case stateKey:
		c.state = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c *carrier) Keys() []string { return []string{parentKey, stateKey} }

// Serve begins the span of a client's request. Its trace is the one that the message names, else the headers, else a
// new one.
func (t *Tracer) Serve(ctx context.Context, transport, method string, params json.RawMessage, header http.Header) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	var c carrier
	if meta := jsonrpc.Get(params, "_meta"); meta != nil {
		c.parent, _ = jsonrpc.GetString(meta, parentKey)
		c.state, _ = jsonrpc.GetString(meta, stateKey)
	}
	if c.parent == "" {
		c.parent, c.state = header.Get(parentKey), header.Get(stateKey)
	}
	if len(c.state) > maxState {
		c.state = ""
	}
	ctx, span := t.tracer.Start(t.context.Extract(ctx, &c), method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("mcp.method.name", method), attribute.String("erlmcp.transport", transport),
	))
	return ctx, &Span{span}
}

// Call calls a server behind, in a span of its own, whose context travels with the request.
func (t *Tracer) Call(ctx context.Context, server string, peer upstream.Peer, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return peer.Call(ctx, req, from)
	}
	ctx, span := t.tracer.Start(ctx, req.Method+" "+server, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("mcp.method.name", req.Method), attribute.String("erlmcp.server", server),
	))
	defer span.End()
	var c carrier
	t.context.Inject(ctx, &c)
	if req.Headers = req.Headers.Clone(); req.Headers == nil {
		req.Headers = http.Header{}
	}
	req.Headers.Set(parentKey, c.parent)
	req.Params = jsonrpc.With(req.Params, jsonrpc.String(c.parent), "_meta", parentKey)
	if c.state != "" {
		req.Headers.Set(stateKey, c.state)
		req.Params = jsonrpc.With(req.Params, jsonrpc.String(c.state), "_meta", stateKey)
	}
	reply, err := peer.Call(ctx, req, from)
	switch {
	case err != nil:
		span.SetStatus(codes.Error, "no answer")
	case reply.Error != nil:
		span.SetStatus(codes.Error, "refused")
	}
	return reply, err
}

// Outgoing adds the trace of ctx to the metadata of calls to other services.
func Outgoing(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	var c carrier
	propagation.TraceContext{}.Inject(ctx, &c)
	return metadata.AppendToOutgoingContext(ctx, parentKey, c.parent, stateKey, c.state)
}

// Handle begins the span of a service's call that came with a trace; others have none.
func (t *Tracer) Handle(ctx context.Context, method string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	parent := metadata.ValueFromIncomingContext(ctx, parentKey)
	if len(parent) == 0 {
		return ctx, nil
	}
	c := carrier{parent: parent[0]}
	if state := metadata.ValueFromIncomingContext(ctx, stateKey); len(state) > 0 && len(state[0]) <= maxState {
		c.state = state[0]
	}
	ctx = t.context.Extract(ctx, &c)
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("rpc.system", "grpc")))
	return ctx, &Span{span}
}

// Origin is the step that work belongs to which outlives it; the zero Origin is none.
type Origin struct{ span trace.SpanContext }

// OriginOf is the present step of ctx.
func OriginOf(ctx context.Context) Origin { return Origin{trace.SpanContextFromContext(ctx)} }

// In makes what is done under ctx belong to the step.
func (o Origin) In(ctx context.Context) context.Context {
	if !o.span.IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, o.span)
}

// ID is the id of the trace of ctx that is kept, in hex; empty where there is none.
func ID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		return sc.TraceID().String()
	}
	return ""
}
