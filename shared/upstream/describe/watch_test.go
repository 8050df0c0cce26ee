package describe_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/mcphttp"
)

func TestChangesAreHeardUntilTheServerIsLost(t *testing.T) {
	for name, make := range map[string]func(*mcp.Server) http.Handler{
		"modern": func(s *mcp.Server) http.Handler { return handler(s, &mcp.StreamableHTTPOptions{Stateless: true}) },
		"legacy": func(s *mcp.Server) http.Handler { return handler(s, nil) },
		"HTTP+SSE": func(s *mcp.Server) http.Handler {
			return mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := official()
			served := make(server)
			var restarted atomic.Bool
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if restarted.Load() { // and knows no session any more
					http.NotFound(w, r)
					return
				}
				served.ServeHTTP(w, r)
			}))
			defer func() {
				s.Close()
				for session := range server.Sessions() { // what the restart forgot
					_ = session.Close()
				}
			}()
			transport := mcphttp.NewTransport()
			defer transport.CloseIdleConnections()
			config := mcphttp.Config{URL: s.URL, Transport: transport}
			offer, err := describe.HTTP(t.Context(), config, describe.Client{})
			if err != nil {
				t.Fatal(err)
			}
			changed, lost := changesOf(t.Context(), config, offer)
			for heard := false; !heard; { // the subscription is open at some time
				server.AddTool(&mcp.Tool{Name: "new", InputSchema: object}, noTool)
				server.RemoveTools("new")
				select {
				case <-changed:
					heard = true
				case err := <-lost:
					t.Fatal(err)
				case <-time.After(50 * time.Millisecond): // the SDK waits a little for further changes
				}
			}
			restarted.Store(true)
			s.CloseClientConnections()
			if err := <-lost; err == nil {
				t.Error("it was lost")
			}
		})
	}
}

// changesOf watches a server until the test ends.
func changesOf(ctx context.Context, config mcphttp.Config, offer *registryv1.Offer) (<-chan struct{}, <-chan error) {
	changed, lost := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		lost <- describe.WatchHTTP(ctx, config, offer, describe.Client{}, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	return changed, lost
}

func TestAServerThatTellsOfNothingIsFoundOut(t *testing.T) {
	refuseGET := func(h http.Handler, status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(status)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	legacy := []registryv1.Era{registryv1.Era_ERA_LEGACY}
	modern := []registryv1.Era{registryv1.Era_ERA_MODERN}
	for name, test := range map[string]struct {
		handler http.Handler
		offer   *registryv1.Offer
	}{
		"sessionless":        {http.NotFoundHandler(), &registryv1.Offer{Eras: legacy, Sessionless: true}},
		"no standing stream": {refuseGET(handler(official(), nil), http.StatusMethodNotAllowed), &registryv1.Offer{Eras: legacy, LegacyVersion: "2025-11-25"}},
		"no subscriptions": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`))
		}), &registryv1.Offer{Eras: modern}},
		"nothing honoured": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(`data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}` + "\n\n"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}), &registryv1.Offer{Eras: modern}},
	} {
		if err := describe.WatchHTTP(t.Context(), serve(t, test.handler), test.offer, describe.Client{}, func() {}); !errors.Is(err, describe.ErrNoStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASubscriptionThatTheServerEndsIsLost(t *testing.T) {
	config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\"}}\n\n"))
	}))
	err := describe.WatchHTTP(t.Context(), config, &registryv1.Offer{Eras: []registryv1.Era{registryv1.Era_ERA_MODERN}}, describe.Client{}, func() {})
	if !errors.Is(err, upstream.ErrLost) {
		t.Error(err)
	}
}
