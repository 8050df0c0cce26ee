// Package access says who a request is from. It knows credentials and principals; what a principal may do with
// a method is shared/rpc's to ask, and it must not know MCP. Start at [Chain].
package access

import (
	"context"
	"errors"
	"net/http"
	"strings"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Principal is whom a request acts for.
type Principal struct {
	// ID is unique among all principals, whatever their credential.
	ID   string
	Role registryv1.Role
	// Method is how it was found out: one of the Method constants.
	Method string
	// Tenant is whom the principal belongs to, for usage to be summed by; empty for none.
	Tenant string
}

// Methods by which a principal is found.
const (
	MethodAnonymous = "anonymous"
	MethodKey       = "key"
	MethodJWT       = "jwt"
	// MethodService is a service of this cluster. It has no role: it may do more than an admin.
	MethodService = "service"
)

// Errors of authentication. Nothing in them tells a caller more than it should know.
var (
	// ErrUnauthenticated: there is no credential, or it is not valid.
	ErrUnauthenticated = errors.New("no valid credential: send an API key or token as Authorization: Bearer")
	// ErrUnavailable: whether the credential is valid can't be found out now.
	ErrUnavailable = errors.New("credentials can't be checked just now; try again shortly")
	// ErrForbidden: the principal may not do this.
	ErrForbidden = errors.New("the principal's role does not allow this")
)

// Authenticator finds the principal of a bearer token, empty where none was sent: ErrUnauthenticated or
// ErrUnavailable. Implementations are safe for concurrent use.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (Principal, error)
}

// Anonymous takes every request for the same principal.
type Anonymous struct{ Role registryv1.Role }

// Authenticate implements Authenticator.
func (a Anonymous) Authenticate(context.Context, string) (Principal, error) {
	return Principal{ID: "anonymous", Role: a.Role, Method: MethodAnonymous}, nil
}

// Bearer returns the token of an Authorization header, and whether there is one.
func Bearer(h http.Header) (string, bool) {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

type contextKey struct{}

// NewContext carries a principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the principal that ctx carries.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	return p, ok
}
