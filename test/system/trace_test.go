package system

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// parents is what each server heard of the trace that a call belongs to.
type parents struct {
	mu    sync.Mutex
	heard []string // "<header> <_meta's>"
}

func (p *parents) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) == 0 {
		return ""
	}
	return p.heard[len(p.heard)-1]
}

// served is a server that notes the trace of each call. A call of its tool break ends without an answer.
func (p *parents) served(t *testing.T, stateless bool) string {
	server := sdk.NewServer(&sdk.Implementation{Name: "traced", Version: "1"}, nil)
	server.AddTool(&sdk.Tool{Name: "work", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "done"}}}, nil
	})
	server.AddTool(&sdk.Tool{Name: "break", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return nil, errors.New("its connection breaks before")
	})
	handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{Stateless: stateless})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if m, err := jsonrpc.Parse(body); err == nil && m.Method == "tools/call" {
			meta, _ := jsonrpc.GetString(m.Params, "_meta", "traceparent")
			p.mu.Lock()
			p.heard = append(p.heard, r.Header.Get("traceparent")+" "+meta)
			p.mu.Unlock()
			if name, _ := jsonrpc.GetString(m.Params, "name"); name == "break" {
				panic(http.ErrAbortHandler)
			}
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// service is a gRPC service, of health, that notes the trace of each call.
func (p *parents) service(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard = append(p.heard, strings.Join(metadata.ValueFromIncomingContext(ctx, "traceparent"), " "))
		return handle(ctx, req)
	}))
	healthv1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// tracedProgram is set for the process of this test that is a server over stdio, which answers with the trace it heard.
const tracedProgram = "ERLMCP_TEST_TRACED_PROGRAM"

func runTracedProgram() error {
	server := sdk.NewServer(&sdk.Implementation{Name: "traced", Version: "1"}, nil)
	server.AddTool(&sdk.Tool{Name: "work", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint("heard ", r.Params.Meta["traceparent"], ".")}}}, nil
	})
	return server.Run(context.Background(), &sdk.StdioTransport{})
}

// callTraced calls a tool as a modern client, with more in _meta and in headers, and gives the answer.
func callTraced(t *testing.T, url, tool, meta string, header map[string]string) (answer string, err error) {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}` + meta + `}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool} {
		req.Header.Set(k, v)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// A trace that a client begins goes on through gateway and owner to the server, of either era, a program's or gRPC's, and
// can be seen whole at the collector; one that is malformed is not taken for one.
func TestATraceIsWhole(t *testing.T) {
	t.Parallel()
	c, p := newCollector(t), &parents{}
	many := cluster.RunCluster(t, cluster.Erlmcp{
		Binary: erlmcp, Env: []string{"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_BSP_SCHEDULE_DELAY=100"},
		Config: fmt.Sprintf(`servers:
  - {name: modern, url: %q}
  - {name: legacy, url: %q}
  - {name: program, command: [%q], env: {%s: "1"}}
  - {name: service, grpc: %q, services: [grpc.health.v1.Health]}
`, p.served(t, true), p.served(t, false), os.Args[0], tracedProgram, p.service(t)),
	}, cluster.Layout{})
	for _, g := range many.Gateways {
		awaitServers(t, place{rest: cluster.Address(g.Ports.API)}, 4)
	}
	const span = "00f067aa0ba902b7"
	call := func(view, meta string, header map[string]string) (answer string) {
		t.Helper()
		tool := "work"
		if view == "service" {
			tool = "Check"
		}
		testkit.Eventually(t, func() (err error) {
			if answer, err = callTraced(t, many.URL(view), tool, meta, header); err == nil && !strings.Contains(answer, `"complete"`) {
				err = fmt.Errorf("%s: %s", view, answer)
			}
			return err
		}, 20*time.Second)
		return answer
	}
	for i, x := range []struct {
		view  string
		meta  bool // where the client puts its trace
		steps []string
	}{
		{"modern", false, []string{"tools/call", "tools/call modern"}},
		{"modern", true, []string{"tools/call", "tools/call modern"}},
		{"legacy", false, []string{"tools/call", "/erlmcp.session.v1.UpstreamService/Call", "tools/call legacy"}},
		{"legacy", true, []string{"tools/call", "/erlmcp.session.v1.UpstreamService/Call", "tools/call legacy"}},
		{"program", false, []string{"tools/call", "/erlmcp.session.v1.UpstreamService/Call", "tools/call program"}},
		{"program", true, []string{"tools/call", "/erlmcp.session.v1.UpstreamService/Call", "tools/call program"}},
		{"service", false, []string{"tools/call", "tools/call service"}},
		{"service", true, []string{"tools/call", "tools/call service"}},
	} {
		id := fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e47%02x", i)
		parent := "00-" + id + "-" + span + "-01"
		meta, header := "", map[string]string{"traceparent": parent}
		if x.meta { // which counts for more
			meta, header = `,"traceparent":"`+parent+`"`, map[string]string{"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}
		}
		answer := call(x.view, meta, header)
		testkit.Eventually(t, func() error { // spans come in batches
			spans := c.trace(id)
			var names []string
			last := ""
			for at := span; ; {
				next := ""
				for key, s := range spans {
					if hex.EncodeToString(s.GetParentSpanId()) == at {
						next = key
						names = append(names, s.GetName())
					}
				}
				if next == "" {
					break
				}
				at, last = next, next
			}
			if !slices.Equal(names, x.steps) {
				return fmt.Errorf("%s: the trace has the steps %q, want %q", x.view, names, x.steps)
			}
			want, heard := "00-"+id+"-"+last+"-01", p.last()
			switch x.view {
			case "modern", "legacy": // header and _meta
				want += " " + want
			case "program":
				_, heard, _ = strings.Cut(answer, "heard ")
				heard, _, _ = strings.Cut(heard, ".")
			}
			if heard != want {
				return fmt.Errorf("%s: the server heard %q, want %q", x.view, heard, want)
			}
			return nil
		}, 20*time.Second)
	}

	// What is no trace context begins a trace of its own.
	for _, forged := range []string{"00-xyz", "00-00000000000000000000000000000000-0000000000000000-01", "ff-" + strings.Repeat("1", 32) + "-" + span + "-01", strings.Repeat("1", 3000)} {
		call("modern", "", map[string]string{"traceparent": forged, "tracestate": strings.Repeat("x=1,", 600)})
		if heard := p.last(); !strings.HasPrefix(heard, "00-") || strings.Contains(heard, forged[:6]) || len(heard) != 55*2+1 {
			t.Errorf("of the trace %.60q the server heard %q", forged, heard)
		}
	}
}
