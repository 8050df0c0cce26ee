package mcphttp_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// journal notes what it is told.
type journal struct {
	mu sync.Mutex
	id int64
	at []string
}

func (j *journal) Sent(id int64) { j.id = id }

func (j *journal) At(position string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at = append(j.at, position)
}

// A call's journal hears of each place from which the rest of the answer can be had, so not of that behind the answer,
// and of none behind a question that would not be asked again. From its first place another process goes on.
func TestACallIsContinuedElsewhere(t *testing.T) {
	for name, x := range map[string]struct {
		first string // what comes first: an event of its own, or nothing
		want  []string
	}{
		"with a priming event": {"id: p0\ndata:\n\n", []string{"p0", "p1"}},
		"without":              {"", []string{"p1"}},
		"a question first":     {"id: p0\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var id json.RawMessage
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := func() {
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, "id: p1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":", string(id), ",\"progress\":1}}\n\n")
					fmt.Fprintf(w, "id: p2\ndata: %s\n\n", jsonrpc.Response(id, json.RawMessage(`{"content":[]}`)))
				}
				switch body, _ := io.ReadAll(r.Body); {
				case r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") == "p0":
					answer()
				case r.Method != http.MethodPost:
					w.WriteHeader(http.StatusMethodNotAllowed)
				default:
					m, err := jsonrpc.Parse(body)
					if err != nil || !m.IsRequest() {
						w.WriteHeader(http.StatusAccepted)
						return
					}
					id = m.ID
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, x.first)
					answer()
				}
			}))
			defer server.Close()
			config := mcphttp.LegacyConfig{Config: mcphttp.Config{URL: server.URL}, SessionID: "s", Version: "2025-11-25", NoStream: true}
			l, err := mcphttp.Resume(config)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Leave()
			j, heard := &journal{}, &notes{}
			request := upstream.Request{Method: "tools/call", Params: json.RawMessage(`{"name":"x","_meta":{"progressToken":"mine"}}`), Journal: j}
			if _, err := l.Call(t.Context(), request, heard); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(j.at, x.want) || fmt.Sprint(j.id) != string(id) {
				t.Errorf("the journal was told %d %q, want %s %q", j.id, j.at, id, x.want)
			}
			if len(j.at) == 0 || j.at[0] != "p0" {
				return
			}
			again, err := mcphttp.Resume(config)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Leave()
			rest := &notes{}
			reply, err := again.Continue(t.Context(), upstream.Continued{ID: j.id, Position: "p0", Token: json.RawMessage(`"mine"`)}, rest)
			if err != nil || string(reply.Result) != `{"content":[]}` || !slices.Equal(rest.got, heard.got) {
				t.Errorf("elsewhere it gave %s, %v, and %q before; here %q", reply.Result, err, rest.got, heard.got)
			}
		})
	}
}

// notes hears notifications.
type notes struct {
	upstream.Listener
	got []string
}

func (n *notes) Notification(method string, params json.RawMessage) {
	n.got = append(n.got, method+" "+string(params))
}
