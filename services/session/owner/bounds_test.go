package owner

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// A server may withdraw what it asked and ask anew without end, and say what it likes: what waits for a client that does
// not read stays bounded.
func TestQuestionsToAClientThatDoesNotReadAreBounded(t *testing.T) {
	o := New(Config{Node: store.Node{Name: "one"}, Store: memory.New(store.Limits{})})
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone", Version: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.session(t.Context(), opened.Record.ID)
	if err != nil {
		t.Fatal(err)
	}
	withdrawn, cancel := context.WithCancel(t.Context())
	cancel()
	running := &call{stream: newStream("1"), logged: true}
	for name, to := range map[string]struct {
		emitter
		stream *stream
	}{
		"the standing stream": {standingEmitter{s}, s.standing},
		"a call's stream":     {callEmitter{s, running}, running.stream},
	} {
		t.Run(name, func(t *testing.T) {
			h := heard{session: s, to: to.emitter}
			var refused *jsonrpc.Error
			for range 2 * maxStreamEvents {
				_, refused = h.Request(withdrawn, mcp.MethodSample, json.RawMessage(`{"messages":[]}`))
			}
			if refused == nil || !strings.Contains(refused.Message, "does not read") {
				t.Errorf("at the end the server is told %v", refused)
			}
			// The last one that was let in is withdrawn.
			if n := len(to.stream.events); n > maxStreamEvents+1 {
				t.Errorf("%d messages wait", n)
			}
		})
	}
	long := json.RawMessage(`"` + strings.Repeat("x", maxStreamBytes) + `"`)
	before := s.standing.size()
	if _, err := (heard{s, standingEmitter{s}}).Request(withdrawn, mcp.MethodSample, long); err == nil || !strings.Contains(err.Message, "at most") {
		t.Errorf("of a question that is too long a server is told %v", err)
	}
	heard{s, standingEmitter{s}}.Notification("notifications/message", long)
	if s.standing.size() != before {
		t.Error("a notification that is too long waits for the client")
	}
}

// Who calls for long answers and goes away leaves little behind.
func TestAnswersThatNobodyReadsAreBounded(t *testing.T) {
	o := New(Config{Node: store.Node{Name: "one"}, Store: memory.New(store.Limits{})})
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone", Version: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.session(t.Context(), opened.Record.ID)
	if err != nil {
		t.Fatal(err)
	}
	long := jsonrpc.String(strings.Repeat("x", maxStreamBytes/4))
	for i := range 2 * maxUnread {
		c := &call{id: jsonrpc.IntID(int64(i)), stream: newStream("")}
		s.mu.Lock()
		s.leaveUnread(c)
		s.mu.Unlock()
		s.finish(t.Context(), c, upstream.Reply{Result: long})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := 0
	for _, c := range s.unread {
		waits += c.stream.size()
	}
	if len(s.unread) == 0 || len(s.unread) > maxUnread || waits > maxStreamBytes {
		t.Errorf("%d calls with %d bytes are remembered", len(s.unread), waits)
	}
}
