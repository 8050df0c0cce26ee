package bench

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// Paths of the upstream server.
const (
	ModernPath = "/modern"
	LegacyPath = "/legacy"
)

// maxSessions bounds the legacy sessions that the upstream server keeps.
const maxSessions = 100_000

// upstream is a bare MCP server: what net/http and encoding/json need, and nothing else.
type upstream struct {
	mu       sync.Mutex
	sessions map[string]bool
	// The result of tools/list in each era, encoded once.
	modernList, legacyList json.RawMessage
}

// Upstream serves the tool echo and a list of [ToolCount] tools to modern clients at [ModernPath], and to legacy
// clients, with sessions, at [LegacyPath].
func Upstream() http.Handler {
	u := &upstream{
		sessions:   map[string]bool{},
		modernList: json.RawMessage(`{"resultType":"complete","ttlMs":3600000,"cacheScope":"public","tools":` + string(toolList()) + `}`),
		legacyList: json.RawMessage(`{"tools":` + string(toolList()) + `}`),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+ModernPath, u.modern)
	mux.HandleFunc("POST "+LegacyPath, u.legacy)
	mux.HandleFunc("DELETE "+LegacyPath, u.endSession)
	return mux
}

// call is a request of any method that is known here.
type call struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ProtocolVersion string `json:"protocolVersion"`
		Name            string `json:"name"`
		Arguments       struct {
			Message string `json:"message"`
		} `json:"arguments"`
	} `json:"params"`
}

type content struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type callResult struct {
	ResultType string    `json:"resultType,omitempty"`
	Content    []content `json:"content"`
}

type answer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *answerError    `json:"error,omitempty"`
}

type answerError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (u *upstream) modern(w http.ResponseWriter, r *http.Request) {
	c, ok := readCall(w, r)
	if !ok {
		return
	}
	switch c.Method {
	case "tools/call":
		echo(w, c, "complete")
	case "tools/list":
		reply(w, c.ID, u.modernList)
	case "server/discover":
		reply(w, c.ID, json.RawMessage(`{"resultType":"complete","ttlMs":3600000,"cacheScope":"public","supportedVersions":["2026-07-28"],`+
			`"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"1"}}}`))
	default:
		refuse(w, http.StatusNotFound, c.ID, -32601, "unknown method "+c.Method)
	}
}

func (u *upstream) legacy(w http.ResponseWriter, r *http.Request) {
	c, ok := readCall(w, r)
	if !ok {
		return
	}
	if c.Method == "initialize" {
		u.initialize(w, c)
		return
	}
	session := r.Header.Get("Mcp-Session-Id")
	u.mu.Lock()
	known := u.sessions[session]
	u.mu.Unlock()
	switch {
	case session == "":
		refuse(w, http.StatusBadRequest, c.ID, -32000, "a session id is needed: call initialize first")
	case !known:
		refuse(w, http.StatusNotFound, c.ID, -32001, "unknown session")
	case c.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case c.Method == "tools/call":
		echo(w, c, "")
	case c.Method == "tools/list":
		reply(w, c.ID, u.legacyList)
	case c.Method == "ping":
		reply(w, c.ID, json.RawMessage(`{}`))
	default:
		refuse(w, http.StatusOK, c.ID, -32601, "unknown method "+c.Method)
	}
}

func (u *upstream) initialize(w http.ResponseWriter, c call) {
	session := rand.Text()
	u.mu.Lock()
	full := len(u.sessions) >= maxSessions
	if !full {
		u.sessions[session] = true
	}
	u.mu.Unlock()
	if full {
		refuse(w, http.StatusServiceUnavailable, c.ID, -32000, "too many sessions")
		return
	}
	version := c.Params.ProtocolVersion
	if version > "2025-11-25" || version < "2024-11-05" {
		version = "2025-11-25"
	}
	w.Header().Set("Mcp-Session-Id", session)
	reply(w, c.ID, map[string]any{
		"protocolVersion": version,
		"capabilities":    map[string]any{"tools": map[string]any{}},
		"serverInfo":      map[string]any{"name": "bench", "version": "1"},
	})
}

func (u *upstream) endSession(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	delete(u.sessions, r.Header.Get("Mcp-Session-Id"))
	u.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func echo(w http.ResponseWriter, c call, resultType string) {
	if c.Params.Name != echoTool {
		refuse(w, http.StatusOK, c.ID, -32602, "unknown tool "+c.Params.Name)
		return
	}
	reply(w, c.ID, callResult{resultType, []content{{"text", c.Params.Arguments.Message}}})
}

func readCall(w http.ResponseWriter, r *http.Request) (c call, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, json.RawMessage("null"), -32700, err.Error())
		return c, false
	}
	return c, true
}

func reply(w http.ResponseWriter, id json.RawMessage, result any) {
	write(w, http.StatusOK, answer{JSONRPC: "2.0", ID: id, Result: result})
}

func refuse(w http.ResponseWriter, status int, id json.RawMessage, code int, message string) {
	write(w, status, answer{JSONRPC: "2.0", ID: id, Error: &answerError{code, message}})
}

func write(w http.ResponseWriter, status int, a answer) {
	// A list is not encoded again: copying it is all that a server which knows its list has to do.
	if list, ok := a.Result.(json.RawMessage); ok {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(a.ID)+`,"result":`)
		_, _ = w.Write(list)
		_, _ = io.WriteString(w, "}")
		return
	}
	text, err := json.Marshal(a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that left needs no answer
}
