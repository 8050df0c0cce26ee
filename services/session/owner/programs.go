package owner

import (
	"context"
	"strconv"
	"strings"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/catalog"
)

// A program dies with its owner, by itself, or because nobody called it for long. The session's next call starts it
// again; what it had kept in memory is lost. The session is marked then, and its client told to read lists anew.

// stateProgram begins the name of a value that counts the starts of a program, whose server's name follows.
const stateProgram = "program/"

// programStarts are how often programs were started for a session, by server, as its record has it.
func programStarts(r store.Record) map[string]int {
	starts := map[string]int{}
	for name, value := range r.State {
		server, is := strings.CutPrefix(name, stateProgram)
		if n, err := strconv.Atoi(string(value)); is && err == nil {
			starts[server] = n
		}
	}
	return starts
}

// Restarts are how often programs were started again for a session, by server, as its record has it.
func Restarts(r store.Record) map[string]uint32 {
	var again map[string]uint32
	for server, n := range programStarts(r) {
		if n > 1 {
			if again == nil {
				again = map[string]uint32{}
			}
			again[server] = uint32(n - 1)
		}
	}
	return again
}

// programStarted counts a program's start.
func (s *session) programStarted(ctx context.Context, server *registryv1.CatalogServer) {
	name := server.GetServer().GetName()
	s.mu.Lock()
	s.starts[name]++
	n := s.starts[name]
	s.mu.Unlock()
	s.save(ctx, stateProgram+name, []byte(strconv.Itoa(n)))
	if n == 1 {
		return
	}
	s.owner.log.Info("a program was started again; what it kept for the session is lost", "session", s.record.ID, "server", name, "starts", n)
	offer := server.GetOffer()
	s.listsChanged(catalog.Changes{
		len(offer.GetTools()) > 0, len(offer.GetPrompts()) > 0, len(offer.GetResources())+len(offer.GetResourceTemplates()) > 0,
	})
}
