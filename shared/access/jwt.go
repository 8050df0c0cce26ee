package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// JWT authenticates JSON Web Tokens of one issuer against its JSON Web Key Set (RFC 7519, RFC 7517),
// where only asymmetric signatures count, or against a shared secret.
type JWT struct {
	issuer      string
	roleClaim   string
	tenantClaim string
	verifier    *oidc.IDTokenVerifier

	mu    sync.Mutex
	known map[[sha256.Size]byte]verified // tokens that were checked lately
}

type verified struct {
	principal Principal
	until     time.Time
}

// JWTConfig is what a JWT needs.
type JWTConfig struct {
	// Issuer must equal the token's iss.
	Issuer string
	// Audience must be among the token's aud.
	Audience string
	// JWKSURL is where the issuer publishes its keys; found by OpenID discovery where empty.
	JWKSURL string
	// Secret verifies tokens signed with HS256, where no issuer publishes keys; JWKSURL is not used then, and
	// Issuer may be empty.
	Secret []byte
	// RoleClaim names the claim that holds "admin", "viewer" or "user", alone or in an array; "role" when empty.
	RoleClaim string
	// TenantClaim names the claim that holds the principal's tenant; none when empty.
	TenantClaim string
	// Client asks for the keys; one with a timeout of 5 s when nil.
	Client *http.Client
}

// Bounds of the tokens that are remembered.
const (
	maxKnown   = 10_000
	rememberAs = time.Minute
)

// staysSafe lets an issuer move its keys, but not out of TLS: whoever sits there could give keys of their own.
func staysSafe(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 3:
		return errors.New("the issuer's keys are moved too often")
	case via[0].URL.Scheme == "https" && next.URL.Scheme != "https":
		return errors.New("the issuer's keys are moved to a place without TLS")
	}
	return nil
}

// NewJWT makes a JWT. It asks for the keys when the first token comes.
func NewJWT(config JWTConfig) *JWT {
	if config.RoleClaim == "" {
		config.RoleClaim = "role"
	}
	client := http.Client{Timeout: keysTimeout}
	if config.Client != nil {
		client = *config.Client
	}
	client.CheckRedirect = staysSafe
	var keys oidc.KeySet = keySet{&issuerKeys{issuer: config.Issuer, url: config.JWKSURL, client: &client}}
	algorithms := asymmetric
	if len(config.Secret) > 0 {
		keys, algorithms = sharedSecret(config.Secret), []jose.SignatureAlgorithm{jose.HS256}
	}
	names := make([]string, 0, len(algorithms))
	for _, a := range algorithms {
		names = append(names, string(a))
	}
	return &JWT{
		issuer:      config.Issuer,
		roleClaim:   config.RoleClaim,
		tenantClaim: config.TenantClaim,
		verifier: oidc.NewVerifier(config.Issuer, keys, &oidc.Config{
			ClientID:             config.Audience,
			SkipIssuerCheck:      config.Issuer == "" && len(config.Secret) > 0,
			SupportedSigningAlgs: names,
		}),
		known: map[[sha256.Size]byte]verified{},
	}
}

// Authenticate implements Authenticator.
func (j *JWT) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	if bearer == "" || len(bearer) > 16<<10 {
		return Principal{}, ErrUnauthenticated
	}
	digest := sha256.Sum256([]byte(bearer))
	now := time.Now()
	j.mu.Lock()
	v, ok := j.known[digest]
	j.mu.Unlock()
	if ok && now.Before(v.until) {
		return v.principal, nil
	}
	var unreachable bool
	token, err := j.verifier.Verify(context.WithValue(ctx, unreachableKey{}, &unreachable), bearer)
	switch {
	case unreachable:
		return Principal{}, ErrUnavailable
	case err != nil:
		return Principal{}, ErrUnauthenticated
	}
	if token.Subject == "" {
		return Principal{}, ErrUnauthenticated
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return Principal{}, ErrUnauthenticated
	}
	if notBefore, ok := claims["nbf"].(float64); ok && now.Add(30*time.Second).Before(time.Unix(int64(notBefore), 0)) {
		return Principal{}, ErrUnauthenticated
	}
	p := Principal{ID: j.issuer + "#" + token.Subject, Role: role(claims[j.roleClaim]), Method: MethodJWT}
	if j.tenantClaim != "" {
		p.Tenant = tenant(claims[j.tenantClaim])
	}
	until := now.Add(rememberAs)
	if token.Expiry.Before(until) {
		until = token.Expiry
	}
	j.remember(digest, verified{p, until}, now)
	return p, nil
}

// keySet tells its caller, through the context, that the issuer's keys could not be had: the verifier around it
// keeps only the text of errors.
type keySet struct{ oidc.KeySet }

type unreachableKey struct{}

// VerifySignature implements oidc.KeySet.
func (k keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, token)
	if errors.Is(err, errNoKeys) {
		*ctx.Value(unreachableKey{}).(*bool) = true
	}
	return payload, err
}

// sharedSecret verifies HS256 signatures.
type sharedSecret []byte

// VerifySignature implements oidc.KeySet.
func (k sharedSecret) VerifySignature(_ context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, err
	}
	return signed.Verify([]byte(k))
}

func (j *JWT) remember(digest [sha256.Size]byte, v verified, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.known) >= maxKnown {
		for d, old := range j.known {
			if now.After(old.until) {
				delete(j.known, d)
			}
		}
		if len(j.known) >= maxKnown {
			clear(j.known) // all are valid and asked for within a minute: they are checked again
		}
	}
	j.known[digest] = v
}

// maxTenant is the longest tenant, in bytes.
const maxTenant = 128

// tenant reads a claim: text of visible ASCII. Anything else is none.
func tenant(claim any) string {
	s, _ := claim.(string)
	if len(s) > maxTenant || strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return ""
	}
	return s
}

// role reads the highest role of a claim; a token without one is a user's.
func role(claim any) registryv1.Role {
	best := registryv1.Role_ROLE_USER
	names, _ := claim.([]any)
	if s, ok := claim.(string); ok {
		names = []any{s}
	}
	for _, n := range names {
		switch n {
		case "admin":
			best = max(best, registryv1.Role_ROLE_ADMIN)
		case "viewer":
			best = max(best, registryv1.Role_ROLE_VIEWER)
		}
	}
	return best
}
