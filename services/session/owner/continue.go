package owner

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// A call at a server that keeps the events of its answers outlives its owner: the next one asks the server for the rest
// of the answer. What the client was told before is in the session's log, and is not told again.

// place is where a call stands at a server. Its position is the first one that the server told: what follows it and was
// passed on is known from the log.
type place struct {
	Conversation string `json:"conversation"`
	ID           int64  `json:"id"`
	Position     string `json:"position"`
	// Token is the client's progress token.
	Token json.RawMessage `json:"token,omitempty"`
}

// journal keeps a call's place in the ledger; nil for calls that could not be continued. A call under an idempotency
// key is not: its answer must be kept under the key, by whoever holds that.
func (s *session) journal(c *call, end End) upstream.Journal {
	if end.Conversation == nil || c.stream.name == "" || c.standing || jsonrpc.Get(c.params, "_meta", mcp.MetaIdempotencyKey) != nil {
		return nil
	}
	return callJournal{s, c, end.Conversation.ID}
}

// maxPosition is the longest position that is kept, in bytes; servers choose them.
const maxPosition = 1024

type callJournal struct {
	session      *session
	call         *call
	conversation string
}

// Sent implements upstream.Journal.
func (j callJournal) Sent(id int64) {
	c := j.call
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = &place{Conversation: j.conversation, ID: id, Token: jsonrpc.Get(c.params, "_meta", mcp.MetaProgressToken)}
}

// At implements upstream.Journal.
func (j callJournal) At(position string) {
	c := j.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.Position != "" || c.ended || len(position) > maxPosition {
		return // the first one does: what was passed on behind it is in the log
	}
	c.at.Position = position
	if c.logged {
		_ = j.session.enter(c) // as it was, it is there
	}
}

// continuable reports whether another owner could go on with the call.
func (c *call) continuable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logged && !c.unlogged && c.at != nil && c.at.Position != ""
}

// heardTime is how long the owner before may still hear the answer to a call that can't be repeated: it is frozen, and
// its connection stands.
const heardTime = 15 * time.Second

// goOn goes on with a call of the owner before, and ends it. It is false where the server does not tell the rest.
func (s *session) goOn(ctx context.Context, c *call, had *again) bool {
	server := s.owner.config.Catalog.Current().Server(c.server)
	if server == nil {
		return false
	}
	sl, err := s.slot(server)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout(server))
	defer cancel()
	end, err := sl.get(ctx)
	if err != nil || end.Conversation == nil || end.Conversation.ID != c.at.Conversation {
		return false
	}
	peer, ok := end.Peer.(upstream.Continuer)
	if !ok {
		return false
	}
	continued := upstream.Continued{ID: c.at.ID, Position: c.at.Position, Token: c.at.Token}
	if !c.repeatable {
		continued.Patience = heardTime
	}
	reply, err := peer.Continue(ctx, continued, had)
	if err != nil && ctx.Err() == nil {
		s.owner.log.InfoContext(ctx, "a server does not tell the rest of an answer", "session", s.record.ID, "server", c.server, "error", err)
		return false
	}
	if err != nil {
		reply = failed(upstream.Explain(c.server, err))
	}
	s.finish(ctx, c, reply)
	return true
}

// tookUp says that a call of the owner before is no longer taken up: what it asked then needs no answer any more.
func (s *session) tookUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takingUp--; s.takingUp > 0 {
		return
	}
	for _, q := range s.early {
		close(q.over)
	}
	clear(s.early)
}

// again hears what a server tells a second time, and passes on only what the client was not told before.
type again struct {
	heard
	mu    sync.Mutex
	told  map[string]int               // notifications
	asked map[string][]json.RawMessage // ids of questions, by what is asked
}

// add takes a message that the client was told.
func (a *again) add(message []byte) {
	m, err := jsonrpc.Parse(message)
	switch {
	case err != nil:
	case m.ID != nil:
		key := m.Method + "\x00" + string(m.Params)
		a.asked[key] = append(a.asked[key], m.ID)
	default:
		a.told[string(message)]++
	}
}

// Notification implements upstream.Listener.
func (a *again) Notification(method string, params json.RawMessage) {
	key := string(jsonrpc.Request(nil, method, params))
	a.mu.Lock()
	had := a.told[key] > 0
	if had {
		a.told[key]--
	}
	a.mu.Unlock()
	if !had {
		a.heard.Notification(method, params)
	}
}

// Next implements upstream.Orderer: of questions that are alike, the client was asked the first one first.
func (a *again) Next(method string, params json.RawMessage) upstream.Listener {
	key := method + "\x00" + string(params)
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := a.asked[key]
	if len(ids) == 0 {
		return a.heard
	}
	a.asked[key] = ids[1:]
	return reasked{a.heard, ids[0]}
}

// reasked answers a question that the client was asked before, under an id.
type reasked struct {
	heard
	id json.RawMessage
}

// Request implements upstream.Listener. The client's answer may still come; one that came before is known to the server.
func (r reasked) Request(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return r.session.await(ctx, r.to, r.id, nil)
}
