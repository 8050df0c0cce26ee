package ends_test

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/ends"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/shared/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What programs write may tell of things that are none of a client's business.
func TestClientsAreNotToldAProgramsLastWordsUnlessThatIsSetSo(t *testing.T) {
	for _, words := range []bool{false, true} {
		programs := &stdio.Runner{}
		opener := &ends.Opener{Programs: programs, Words: words}
		for call := range 4 { // the last one finds it resting
			_, err := opener.Open(t.Context(), server(`echo "no file /home/alice" >&2; exit 7`), owner.EndClient{Principal: "bob", Version: "2025-11-25"})
			if !errors.Is(err, upstream.ErrNotSent) || !strings.Contains(err.Error(), "ended") {
				t.Fatalf("call %d: %v", call+1, err)
			}
			if told := upstream.Explain("s", err).Error(); strings.Contains(told, "alice") != words {
				t.Errorf("words %v, call %d: the client is told %q", words, call+1, told)
			}
		}
		_, err := opener.Open(t.Context(), &registryv1.CatalogServer{Server: &registryv1.Server{Name: "gone", Endpoint: &registryv1.Server_Stdio{
			Stdio: &registryv1.StdioEndpoint{Command: []string{"/srv/none"}},
		}}}, owner.EndClient{Principal: "bob"})
		if told := upstream.Explain("gone", err).Error(); strings.Contains(told, "/srv") != words {
			t.Errorf("words %v: of a program that is not there the client is told %q", words, told)
		}
	}
}

func server(script string) *registryv1.CatalogServer {
	return &registryv1.CatalogServer{Server: &registryv1.Server{Name: "s", Endpoint: &registryv1.Server_Stdio{
		Stdio: &registryv1.StdioEndpoint{Command: []string{"sh", "-c", script}},
	}}}
}
