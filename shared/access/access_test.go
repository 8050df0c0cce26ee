package access_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
)

func TestAnAPIKeyNamesItsPrincipalUntilItIsRevoked(t *testing.T) {
	record, secret, err := access.NewKey("alice", registryv1.Role_ROLE_VIEWER, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(record.String(), strings.Split(secret, "_")[2]) {
		t.Error("the record holds the secret")
	}
	var keys access.KeySet
	ctx := t.Context()
	keys.Apply(true, nil, nil)
	if _, err := keys.Authenticate(ctx, secret); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("before it is known: %v", err)
	}
	keys.Apply(false, []*registryv1.KeyRecord{record}, nil)
	p, err := keys.Authenticate(ctx, secret)
	if want := (access.Principal{ID: "alice", Role: registryv1.Role_ROLE_VIEWER, Method: "key"}); err != nil || p != want {
		t.Errorf("got %v, %v", p, err)
	}
	for _, wrong := range []string{"", secret + "x", secret[:len(secret)-1], "erlmcp_" + record.Key.Id + "_", "erlmcp_none_" + strings.Split(secret, "_")[2]} {
		if _, err := keys.Authenticate(ctx, wrong); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	keys.Apply(false, nil, []string{record.Key.Id})
	if _, err := keys.Authenticate(ctx, secret); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("after it was revoked: %v", err)
	}
}

func TestAKeyIsNotCalledWrongBeforeTheFirstKeysAreThere(t *testing.T) {
	record, secret, err := access.NewKey("alice", registryv1.Role_ROLE_USER, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var keys access.KeySet
		if _, err := keys.Authenticate(t.Context(), secret); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("keys never come: %v", err)
		}
		time.AfterFunc(time.Second, func() { keys.Apply(true, []*registryv1.KeyRecord{record}, nil) })
		if p, err := keys.Authenticate(t.Context(), secret); err != nil || p.ID != "alice" {
			t.Errorf("keys come while it waits: %v, %v", p, err)
		}
	})
}

func TestAnAPIKeyExpires(t *testing.T) {
	record, secret, _ := access.NewKey("alice", registryv1.Role_ROLE_USER, "", time.Now().Add(-time.Second))
	var keys access.KeySet
	keys.Apply(true, []*registryv1.KeyRecord{record}, nil)
	if _, err := keys.Authenticate(t.Context(), secret); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

// issuer signs tokens and publishes its keys.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": i.URL, "aud": "erlmcp", "sub": "bob", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	s, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAJWTIsCheckedAgainstItsIssuer(t *testing.T) {
	i := newIssuer(t)
	j := access.NewJWT(access.JWTConfig{Issuer: i.URL, Audience: "erlmcp", JWKSURL: i.URL})
	p, err := j.Authenticate(t.Context(), i.token(t, map[string]any{"role": []string{"user", "admin"}}))
	if want := (access.Principal{ID: i.URL + "#bob", Role: registryv1.Role_ROLE_ADMIN, Method: "jwt"}); err != nil || p != want {
		t.Errorf("got %v, %v", p, err)
	}
	tenants := access.NewJWT(access.JWTConfig{Issuer: i.URL, Audience: "erlmcp", JWKSURL: i.URL, TenantClaim: "org"})
	for claim, want := range map[any]string{"acme": "acme", "two words": "", "\n": "", strings.Repeat("x", 129): "", 7: ""} {
		if p, err := tenants.Authenticate(t.Context(), i.token(t, map[string]any{"org": claim})); err != nil || p.Tenant != want {
			t.Errorf("of the claim %v: the tenant %q, %v", claim, p.Tenant, err)
		}
	}
	stranger := newIssuer(t)
	hmacSigner, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, _ := jwt.Signed(hmacSigner).Claims(map[string]any{"iss": i.URL, "aud": "erlmcp", "sub": "bob", "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
	for name, token := range map[string]string{
		"other audience":  i.token(t, map[string]any{"aud": "another"}),
		"other issuer":    i.token(t, map[string]any{"iss": "https://elsewhere.example"}),
		"expired":         i.token(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"not yet":         i.token(t, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"no subject":      i.token(t, map[string]any{"sub": ""}),
		"other key":       stranger.token(t, map[string]any{"iss": i.URL}),
		"symmetric":       symmetric,
		"unsigned":        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.",
		"no token at all": "garbage",
	} {
		if _, err := j.Authenticate(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnIssuerThatIsAwayIsNoRefusal(t *testing.T) {
	i := newIssuer(t)
	j := access.NewJWT(access.JWTConfig{Issuer: i.URL, Audience: "erlmcp", JWKSURL: i.URL})
	token := i.token(t, nil)
	i.Close()
	if _, err := j.Authenticate(t.Context(), token); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestTheChainGoesByWhatATokenLooksLike(t *testing.T) {
	record, secret, _ := access.NewKey("alice", registryv1.Role_ROLE_USER, "", time.Time{})
	var keys access.KeySet
	keys.Apply(true, []*registryv1.KeyRecord{record}, nil)
	closed := access.Chain{Keys: &keys}
	open := access.Chain{Keys: &keys, Otherwise: access.Anonymous{Role: registryv1.Role_ROLE_ADMIN}}
	for _, c := range []struct {
		chain access.Chain
		token string
		want  string
	}{{closed, secret, "alice"}, {closed, "", ""}, {closed, "jwt", ""}, {open, "", "anonymous"}, {open, "erlmcp_bad_key", ""}, {open, "jwt", ""}, {access.Chain{}, secret, ""}} {
		p, err := c.chain.Authenticate(context.Background(), c.token)
		if p.ID != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %v, %v", c.token, p, err)
		}
	}
}

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{"Bearer x": "x", "bearer  x ": "x", "Basic x": "", "Bearer": "", "": ""} {
		got, ok := access.Bearer(http.Header{"Authorization": {in}})
		if got != want && ok || ok != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
}
