package owner

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
)

// hearing keeps how far a server was heard outside calls, for the next owner to go on from there. It is kept behind what
// was heard, so a message that comes while its owner dies may come again; an owner that hands a session over hears no more
// first.
type hearing struct {
	session *session
	server  string

	mu           sync.Mutex
	conversation *Conversation // nil until it is open, and where it can't be gone on with
	at           string
	keeping      bool
}

// Sent implements upstream.Journal.
func (h *hearing) Sent(int64) {}

// At implements upstream.Journal.
func (h *hearing) At(position string) {
	if len(position) > maxPosition {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = position
	h.keep()
}

// of says which conversation it is that is heard.
func (h *hearing) of(c *Conversation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conversation = c
	h.keep()
}

// keep has the position written, unless that is being done; mu is held.
func (h *hearing) keep() {
	if h.conversation == nil || h.at == "" || h.keeping {
		return
	}
	s := h.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		h.keeping = true
		s.keeping.Add(1)
		s.tasks.Go(h.write)
	}
}

// hearNoMore leaves the conversations of a session without calls, and waits until it is kept how far they were heard.
func (s *session) hearNoMore() {
	s.mu.Lock()
	quiet := s.owner.config.Shared && len(s.calls) == 0
	slots := slices.Collect(maps.Values(s.slots))
	s.mu.Unlock()
	if !quiet {
		return
	}
	var leaving sync.WaitGroup
	for _, sl := range slots {
		leaving.Go(sl.leave)
	}
	leaving.Wait()
	s.keeping.Wait()
}

func (h *hearing) write() {
	defer h.session.keeping.Done()
	for {
		h.mu.Lock()
		c := *h.conversation
		c.Heard = h.at
		h.mu.Unlock()
		if value, err := json.Marshal(c); err == nil {
			h.session.save(h.session.ctx, stateUpstream+h.server, value)
		}
		h.mu.Lock()
		if h.at == c.Heard || h.session.ctx.Err() != nil {
			h.keeping = false
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}
