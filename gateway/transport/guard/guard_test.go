package guard_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/shared/access"
)

// someone knows one token, and lets in who has none too.
type someone struct{}

func (someone) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	switch bearer {
	case "":
		return access.Principal{ID: "anonymous", Method: access.MethodAnonymous}, nil
	case "good":
		return access.Principal{ID: "someone", Method: access.MethodKey}, nil
	}
	return access.Principal{}, access.ErrUnauthenticated
}

// A page whose name was made to lead to this gateway calls, as it seems, the place that it came from. It has no
// credential, so where none is needed its name is to be told from ours.
func TestAPageWhoseNameLeadsHereIsNoClient(t *testing.T) {
	away := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8081}
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}
	for name, c := range map[string]struct {
		at                  net.Addr
		hosts               []string
		host, origin, token string
		want                int
	}{
		"by its own name":                        {away, nil, "evil.example:8081", "http://evil.example:8081", "", http.StatusForbidden},
		"by its own name, where any is served":   {away, []string{"*"}, "evil.example:8081", "http://evil.example:8081", "", http.StatusForbidden},
		"by its own name, on loopback":           {here, []string{"*"}, "evil.example:8081", "http://evil.example:8081", "", http.StatusForbidden},
		"by its own name, with a bad credential": {away, nil, "evil.example", "http://evil.example", "bad", http.StatusUnauthorized},
		"with a credential":                      {away, nil, "app.example", "https://app.example", "good", http.StatusOK},
		"by a name that is ours":                 {away, []string{"app.example"}, "app.example", "https://app.example", "", http.StatusOK},
		"by our address":                         {away, nil, "192.0.2.7:8081", "http://192.0.2.7:8081", "", http.StatusOK},
		"by our IPv6 address":                    {away, nil, "[2001:db8::7]:8081", "http://[2001:db8::7]:8081", "", http.StatusOK},
		"on this machine":                        {here, nil, "localhost:8081", "http://localhost:8081", "", http.StatusOK},
		"no page at all":                         {away, nil, "any.example", "", "", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, c.at), http.MethodPost, "/mcp", nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			g := guard.Guard{Authenticator: someone{}, Hosts: c.hosts}
			if _, ok := g.Admit(w, r); w.Code != c.want || ok != (c.want == http.StatusOK) {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
		})
	}
}
