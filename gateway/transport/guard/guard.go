// Package guard stands before every HTTP transport: it refuses foreign hosts and origins (DNS rebinding), asks
// who the client acts for, and bounds bodies. It must not know MCP.
package guard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"erlmcp.dev/gateway/transport"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/jsonrpc"
)

// Guard checks requests before a transport sees them.
type Guard struct {
	// Authenticator says who a bearer token is; one of access's.
	Authenticator Authenticator
	// Hosts and Origins are allowed besides the address that is listened on: host names without a port, and
	// origins such as "https://app.example.com". A single "*" allows all.
	Hosts, Origins []string
	// MaxBody is the longest request body in bytes; 16 MiB when 0.
	MaxBody int64
	// Places bounds how many connections a principal has. Optional.
	Places Places
	// Recheck is how often the credential of an open stream is looked at again; a minute when 0.
	Recheck time.Duration
}

// Places are what a principal's connections take while they are open.
type Places interface {
	Enter(access.Principal) bool
	Leave(access.Principal)
}

// TooMany tells a principal that it has too many connections.
const TooMany = "you have too many connections open; close some, then try again"

// Authenticator finds a request's principal.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (access.Principal, error)
}

// DefaultMaxBody is the longest request body in bytes, unless set.
const DefaultMaxBody = 16 << 20

// Admit checks where a request comes from and who sends it. Where it returns false the answer was written.
func (g *Guard) Admit(w http.ResponseWriter, r *http.Request) (access.Principal, bool) {
	if !g.hostAllowed(r) {
		Refuse(w, http.StatusForbidden, "this host name is not served; add it to the allowed hosts")
		return access.Principal{}, false
	}
	token, _ := access.Bearer(r.Header)
	if !g.originAllowed(r, token) {
		Refuse(w, http.StatusForbidden, "this origin is not allowed; add it to the allowed origins")
		return access.Principal{}, false
	}
	principal, err := g.Authenticator.Authenticate(r.Context(), token)
	switch {
	case err == nil:
		return principal, true
	case errors.Is(err, access.ErrUnavailable):
		w.Header().Set("Retry-After", "5")
		Refuse(w, http.StatusServiceUnavailable, "credentials can't be checked just now; try again shortly")
	default:
		challenge := "Bearer"
		if token != "" {
			challenge = `Bearer error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		Refuse(w, http.StatusUnauthorized, "send a valid API key or token as Authorization: Bearer")
	}
	return access.Principal{}, false
}

// Enter takes a place for a request of a principal, or a connection that follows from it. Where it returns false the
// answer was written; else Leave gives the place back.
func (g *Guard) Enter(w http.ResponseWriter, p access.Principal) bool {
	if g.Places == nil || g.Places.Enter(p) {
		return true
	}
	w.Header().Set("Retry-After", "1")
	Refuse(w, http.StatusTooManyRequests, TooMany)
	return false
}

// Leave gives back what Enter took.
func (g *Guard) Leave(p access.Principal) {
	if g.Places != nil {
		g.Places.Leave(p)
	}
}

// Still reports whether a bearer token is still the principal's. Where that can't be found out it is.
func (g *Guard) Still(ctx context.Context, bearer string, principal access.Principal) bool {
	now, err := g.Authenticator.Authenticate(ctx, bearer)
	return errors.Is(err, access.ErrUnavailable) || err == nil && now.ID == principal.ID
}

// Attend looks at a bearer token again and again until stop is called, and calls gone once it is the principal's no longer.
func (g *Guard) Attend(ctx context.Context, bearer string, principal access.Principal, gone func()) (stop func()) {
	if bearer == "" { // nothing that could be revoked
		return func() {}
	}
	recheck := g.Recheck
	if recheck == 0 {
		recheck = time.Minute
	}
	return transport.Every(recheck, func() bool {
		if g.Still(ctx, bearer, principal) {
			return true
		}
		gone()
		return false
	})
}

// Refuse answers with a JSON-RPC error without an id.
func Refuse(w http.ResponseWriter, status int, message string) {
	body := jsonrpc.ErrorResponse(json.RawMessage("null"), jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", message).JSON())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// hostAllowed guards a listener on loopback against pages that resolve their own name to it. Elsewhere any
// name may lead here, so only a list, where there is one, says which.
func (g *Guard) hostAllowed(r *http.Request) bool {
	host := hostname(r.Host)
	if slices.Contains(g.Hosts, "*") || slices.ContainsFunc(g.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	if !onLoopback(r) {
		return len(g.Hosts) == 0
	}
	return isLoopback(host)
}

func (g *Guard) originAllowed(r *http.Request, token string) bool {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	origin := values[0]
	if slices.Contains(g.Origins, "*") || slices.ContainsFunc(g.Origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return token != "" || g.ownName(r)
	}
	return onLoopback(r) && isLoopback(u.Hostname())
}

// ownName reports whether the name that a request was sent to is certainly ours. A page may have had its own name resolved
// to our address meanwhile, and then calls itself when it calls us; what it hasn't is a client's credential.
func (g *Guard) ownName(r *http.Request) bool {
	host := hostname(r.Host)
	_, err := netip.ParseAddr(host)
	return err == nil || isLoopback(host) || slices.ContainsFunc(g.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// onLoopback reports whether a request came in on a loopback address.
func onLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	addr, err := netip.ParseAddrPort(local.String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return strings.Trim(host, "[]")
}

// Body reads a request's body. Where it returns false the answer was written.
func (g *Guard) Body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	limit := g.MaxBody
	if limit == 0 {
		limit = DefaultMaxBody
	}
	if r.ContentLength > limit {
		g.tooLarge(w, limit)
		return nil, false
	}
	var body []byte
	var err error
	if r.ContentLength >= 0 {
		body, err = readFull(r.Body, int(r.ContentLength))
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		g.tooLarge(w, limit)
		return nil, false
	case err != nil:
		Refuse(w, http.StatusBadRequest, "the request's body broke off")
		return nil, false
	}
	return body, true
}

// firstPart is how much room a body gets before any of it came, in bytes.
const firstPart = 64 << 10

// readFull reads n bytes. It takes memory for what came, not for what was announced: announcing costs nothing.
func readFull(from io.Reader, n int) ([]byte, error) {
	body := make([]byte, min(n, firstPart))
	for had := 0; ; {
		read, err := io.ReadFull(from, body[had:])
		if had += read; err != nil || had == n {
			return body[:had], err
		}
		grown := make([]byte, min(n, 4*had))
		copy(grown, body)
		body = grown
	}
}

func (g *Guard) tooLarge(w http.ResponseWriter, limit int64) {
	w.Header().Set("Connection", "close") // the rest of the body is not read
	body := jsonrpc.ErrorResponse(json.RawMessage("null"), jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the body is larger than %d bytes", limit).JSON())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	_, _ = w.Write(body)
}
