package describe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/mcphttp"
)

var object = json.RawMessage(`{"type":"object"}`)

func noTool(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil }

// official is a server with one of everything, in pages of two.
func official() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "official", Version: "1"}, &mcp.ServerOptions{PageSize: 2, Instructions: "be kind"})
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: object}, noTool)
	}
	server.AddPrompt(&mcp.Prompt{Name: "p"}, nil)
	server.AddResource(&mcp.Resource{URI: "test://r", Name: "r"}, nil)
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "test://{x}", Name: "t"}, nil)
	return server
}

func serve(t *testing.T, handler http.Handler) mcphttp.Config {
	s := httptest.NewServer(handler)
	transport := mcphttp.NewTransport()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return mcphttp.Config{URL: s.URL, Transport: transport}
}

func handler(server *mcp.Server, options *mcp.StreamableHTTPOptions) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options)
}

// dual serves each era by a handler of its own.
func dual(server *mcp.Server) http.Handler {
	modern, legacy := handler(server, &mcp.StreamableHTTPOptions{Stateless: true}), handler(server, nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= "2026-07-28" {
			modern.ServeHTTP(w, r)
		} else {
			legacy.ServeHTTP(w, r)
		}
	})
}

func keys(items []*registryv1.Item) string {
	var all []string
	for _, item := range items {
		all = append(all, item.GetKey())
	}
	return strings.Join(all, " ")
}

func TestTheErasOfAServerAreFoundOut(t *testing.T) {
	server := official()
	modern, legacy := registryv1.Era_ERA_MODERN, registryv1.Era_ERA_LEGACY
	for name, test := range map[string]struct {
		handler          http.Handler
		eras             []registryv1.Era
		version          string
		sessionless, sse bool
	}{
		"dual":        {dual(server), []registryv1.Era{modern, legacy}, "2025-11-25", false, false},
		"sessionless": {handler(server, &mcp.StreamableHTTPOptions{Stateless: true}), []registryv1.Era{modern, legacy}, "2025-11-25", true, false},
		"legacy":      {handler(server, nil), []registryv1.Era{legacy}, "2025-11-25", false, false},
		"HTTP+SSE":    {mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil), []registryv1.Era{legacy}, "2025-11-25", false, true},
		"modern": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Mcp-Protocol-Version") == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			handler(server, &mcp.StreamableHTTPOptions{Stateless: true}).ServeHTTP(w, r)
		}), []registryv1.Era{modern}, "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			offer, err := describe.HTTP(t.Context(), serve(t, test.handler), describe.Client{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(offer.GetEras(), test.eras) || offer.GetLegacyVersion() != test.version || offer.GetSessionless() != test.sessionless || offer.GetHttpSse() != test.sse {
				t.Errorf("%v %q sessionless %v, SSE %v", offer.GetEras(), offer.GetLegacyVersion(), offer.GetSessionless(), offer.GetHttpSse())
			}
			if got := keys(offer.GetTools()) + "|" + keys(offer.GetPrompts()) + "|" + keys(offer.GetResources()) + "|" + keys(offer.GetResourceTemplates()); got != "a b c d e|p|test://r|test://{x}" {
				t.Error(got)
			}
			if name, _ := jsonrpc.GetString(offer.GetServerInfo(), "name"); name != "official" || offer.GetInstructions() != "be kind" {
				t.Errorf("%s %q", offer.GetServerInfo(), offer.GetInstructions())
			}
		})
	}
}

func TestAProgramIsDescribed(t *testing.T) {
	dial := func(ctx context.Context) (io.ReadWriteCloser, error) {
		hereIn, thereOut := io.Pipe()
		thereIn, hereOut := io.Pipe()
		_, err := official().Connect(ctx, &mcp.IOTransport{Reader: thereIn, Writer: thereOut}, nil)
		return pipes{hereIn, hereOut}, err
	}
	offer, err := describe.Stream(t.Context(), dial, describe.Client{})
	if err != nil || len(offer.GetEras()) != 2 || keys(offer.GetTools()) != "a b c d e" {
		t.Errorf("%v, %v", offer, err)
	}
	failed := errors.New("no such program")
	if _, err := describe.Stream(t.Context(), func(context.Context) (io.ReadWriteCloser, error) { return nil, failed }, describe.Client{}); !errors.Is(err, failed) {
		t.Error(err)
	}
}

type pipes struct {
	*io.PipeReader
	*io.PipeWriter
}

func (p pipes) Close() error { return errors.Join(p.PipeWriter.Close(), p.PipeReader.Close()) }

func TestWhatIsNoServerIsNotDescribed(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"a web site": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, upstream.ErrRefused},
		"a wall":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, upstream.ErrRefused},
		"a wreck":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, upstream.ErrLost},
	} {
		if offer, err := describe.HTTP(t.Context(), serve(t, test.answer), describe.Client{}); !errors.Is(err, test.want) || offer != nil {
			t.Errorf("%s: %v, %v", name, offer, err)
		}
	}
}

// listing is a modern server whose tools/list is a function of the cursor.
func listing(list func(cursor string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := jsonrpc.Get(body, "id")
		w.Header().Set("Content-Type", "application/json")
		switch method, _ := jsonrpc.GetString(body, "method"); method {
		case "server/discover":
			_, _ = w.Write(jsonrpc.Response(id, []byte(`{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}`)))
		case "tools/list":
			answer := list(string(jsonrpc.Get(body, "params", "cursor")))
			if strings.HasPrefix(answer, `{"code"`) {
				_, _ = w.Write(jsonrpc.ErrorResponse(id, []byte(answer)))
			} else {
				_, _ = w.Write(jsonrpc.Response(id, []byte(answer)))
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
}

func TestItemsThatCannotBeShownAreLeftOutWithFewWords(t *testing.T) {
	var log bytes.Buffer
	many := strings.Repeat(`{"name":"a"},`, 1000) + strings.Repeat(`{"name":"bad name"},`, 3)
	pages := map[string]string{
		"": `{"tools":[{"name":"a","x-new": {"n":12345678901234567890}},{"name":"a"},{"name":""},{"name":5},7,{},{"name":"` + strings.Repeat("l", 100_000) + `"},` +
			`{"name":"h","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"number","x-mcp-header":"B"}}}},` + many + `{"name":"b"}],"nextCursor":""}`,
		`""`:  `{"tools":[],"nextCursor":"x"}`,
		`"x"`: `{"tools":[{"name":"ok","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}],"nextCursor":null}`,
	}
	offer, err := describe.HTTP(t.Context(), serve(t, listing(func(cursor string) string { return pages[cursor] })), describe.Client{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil || keys(offer.GetTools()) != "a b ok" {
		t.Fatalf("%q %v", keys(offer.GetTools()), err)
	}
	if got := string(offer.GetTools()[0].GetJson()); got != `{"name":"a","x-new": {"n":12345678901234567890}}` {
		t.Errorf("an item's bytes changed: %s", got)
	}
	if lines := strings.Count(log.String(), "\n"); lines > 30 || log.Len() > 20_000 {
		t.Errorf("%d lines of %d bytes were logged", lines, log.Len())
	}
}

func TestListsAreBounded(t *testing.T) {
	item := 0
	for name, test := range map[string]struct {
		list func(cursor string) string
		want error
	}{
		"pages without end": {func(string) string { return `{"tools":[],"nextCursor":"again"}` }, upstream.ErrTooLarge},
		"items without end": {func(string) string {
			var page strings.Builder
			for range 10_000 {
				item++
				fmt.Fprintf(&page, `{"name":"t%d"},`, item)
			}
			return `{"tools":[` + page.String() + `{}],"nextCursor":"again"}`
		}, upstream.ErrTooLarge},
		"rubbish without end": {func(string) string { return `{"tools":[` + strings.Repeat(`0,`, 50_000) + `0],"nextCursor":"x"}` }, upstream.ErrTooLarge},
		"no list":             {func(string) string { return `{"tools":{}}` }, upstream.ErrRefused},
		"an error":            {func(string) string { return `{"code":-32603,"message":"m"}` }, upstream.ErrRefused},
	} {
		if _, err := describe.HTTP(t.Context(), serve(t, listing(test.list)), describe.Client{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	offer, err := describe.HTTP(t.Context(), serve(t, listing(func(string) string { return `{"code":-32601,"message":"no"}` })), describe.Client{})
	if err != nil || len(offer.GetTools()) != 0 {
		t.Errorf("a server may lack a list of a capability: %v", err)
	}
}
