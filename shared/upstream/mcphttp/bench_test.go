package mcphttp_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

var (
	benchRequest = upstream.Request{
		Method:  mcp.MethodToolsCall,
		Params:  []byte(`{"name":"echo","arguments":{"text":"hello"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}`),
		Headers: http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
	}
	benchResult = []byte(`{"content":[{"type":"text","text":"hello"}],"resultType":"complete"}`)
)

// minimal answers every request as cheaply as a server can.
func minimal(body []byte) []byte {
	id := jsonrpc.Get(body, "id")
	if id == nil {
		return nil
	}
	if method, _ := jsonrpc.GetString(body, "method"); method == mcp.MethodInitialize {
		return jsonrpc.Response(id, []byte(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"m","version":"1"}}`))
	}
	return jsonrpc.Response(id, benchResult)
}

// direct is a server without a network, so that the allocations counted are the caller's.
type direct struct{}

func (direct) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	response := &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: http.NoBody, Request: r}
	if answer := minimal(body); answer != nil {
		response.StatusCode = http.StatusOK
		response.Header["Content-Type"] = []string{"application/json"}
		response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(answer)), int64(len(answer))
	}
	return response, nil
}

func benchCall(b *testing.B, open func(mcphttp.Config) (upstream.Peer, error)) {
	b.Run("no network", func(b *testing.B) {
		runBench(b, open, mcphttp.Config{URL: "http://upstream.test/mcp", Transport: direct{}})
	})
	b.Run("loopback", func(b *testing.B) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			answer := minimal(body)
			if answer == nil {
				w.WriteHeader(http.StatusAccepted)
				return
			}
			w.Header()["Content-Type"] = []string{"application/json"}
			_, _ = w.Write(answer)
		}))
		defer server.Close()
		transport := mcphttp.NewTransport()
		defer transport.CloseIdleConnections()
		runBench(b, open, mcphttp.Config{URL: server.URL, Transport: transport})
	})
}

func runBench(b *testing.B, open func(mcphttp.Config) (upstream.Peer, error), config mcphttp.Config) {
	peer, err := open(config)
	if err != nil {
		b.Fatal(err)
	}
	defer peer.Close()
	b.ReportAllocs()
	for b.Loop() {
		if reply, err := peer.Call(b.Context(), benchRequest, nil); err != nil || reply.Result == nil {
			b.Fatal(reply, err)
		}
	}
}

func BenchmarkModernCall(b *testing.B) {
	benchCall(b, func(c mcphttp.Config) (upstream.Peer, error) { return mcphttp.NewModern(c) })
}

func BenchmarkLegacyCall(b *testing.B) {
	benchCall(b, func(c mcphttp.Config) (upstream.Peer, error) {
		return mcphttp.Initialize(b.Context(), mcphttp.LegacyConfig{Config: c, Version: mcp.V2025_11_25})
	})
}
