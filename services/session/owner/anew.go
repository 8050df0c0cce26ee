package owner

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/catalog"
)

// A program dies with its owner, by itself, or because nobody called it for long; a server over HTTP may forget the
// session. The next call begins anew there; what the server had kept for the session is lost. The session is marked
// then, and its client told to read lists anew.

// stateBegun begins the name of a value that counts how often a conversation with a server was begun, whose name follows.
const stateBegun = "begun/"

// begunBefore are how often conversations were begun for a session, by server, as its record has it.
func begunBefore(r store.Record) map[string]int {
	starts := map[string]int{}
	for name, value := range r.State {
		server, is := strings.CutPrefix(name, stateBegun)
		if n, err := strconv.Atoi(string(value)); is && err == nil {
			starts[server] = n
		}
	}
	return starts
}

// Restarts are how often conversations were begun anew for a session, by server, as its record has it.
func Restarts(r store.Record) map[string]uint32 {
	var again map[string]uint32
	for server, n := range begunBefore(r) {
		if n > 1 {
			if again == nil {
				again = map[string]uint32{}
			}
			again[server] = uint32(n - 1)
		}
	}
	return again
}

// begun counts that a conversation was begun which keeps something for the session, and keeps what it takes to go on
// with it elsewhere; nil for what can't be.
func (s *session) begun(ctx context.Context, server *registryv1.CatalogServer, c *Conversation) {
	name := server.GetServer().GetName()
	s.mu.Lock()
	s.starts[name]++
	n := s.starts[name]
	s.mu.Unlock()
	set := map[string][]byte{stateBegun + name: []byte(strconv.Itoa(n))}
	if value, err := json.Marshal(c); err == nil && c != nil {
		set[stateUpstream+name] = value
	}
	s.change(ctx, store.Changes{Set: set})
	if n == 1 {
		return
	}
	s.owner.log.InfoContext(ctx, "a conversation was begun anew; what the server kept for the session is lost", "session", s.record.ID, "server", name, "starts", n)
	offer := server.GetOffer()
	s.listsChanged(catalog.Changes{
		len(offer.GetTools()) > 0, len(offer.GetPrompts()) > 0, len(offer.GetResources())+len(offer.GetResourceTemplates()) > 0,
	})
}
