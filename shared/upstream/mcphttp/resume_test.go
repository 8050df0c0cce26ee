package mcphttp_test

import (
	"testing"

	"erlmcp.dev/shared/upstream/mcphttp"
)

// A session has one set of ids, whoever continues it: a late answer to a call of the process before must not be taken
// for the answer to one of ours (specification 2025-11-25, basic: ids are not used again within a session).
func TestAContinuedSessionUsesNoIDAgain(t *testing.T) {
	used := map[string]bool{}
	s := legacyScript(t, func(p *post) {
		if used[p.id] {
			t.Errorf("id %s was used before", p.id)
		}
		used[p.id] = true
		if len(p.id) > 16 {
			t.Errorf("id %s is beyond what a server's floating-point number holds", p.id)
		}
		p.result(`{}`)
	})
	first := initialize(t, mcphttp.LegacyConfig{Config: s.config(), NoStream: true})
	continued := func() *mcphttp.Legacy {
		l, err := mcphttp.Resume(mcphttp.LegacyConfig{Config: s.config(), SessionID: "s1", Version: "2025-11-25", NoStream: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	for _, l := range []*mcphttp.Legacy{first, continued(), continued()} {
		for range 3 {
			if _, err := l.Call(t.Context(), named("x"), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}
