package access_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuerURL = "https://issuer.example"

// authority is an issuer without a network: it works in a synctest bubble.
type authority struct {
	keys   map[string]*ecdsa.PrivateKey // published, by id
	asked  int
	answer func(*http.Request) (*http.Response, error) // instead of the keys; nil: the keys
}

// RoundTrip implements http.RoundTripper.
func (a *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked++
	if a.answer != nil {
		return a.answer(r)
	}
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		return answered(200, map[string]string{"issuer": issuerURL, "jwks_uri": issuerURL + "/keys"}), nil
	}
	set := []any{
		map[string]string{"kty": "oct", "kid": "shared", "k": strings.Repeat("c2hhcmVk", 6)},
		map[string]string{"kty": "a kind of tomorrow", "kid": "x"},
	}
	for id, key := range a.keys {
		set = append(set, jose.JSONWebKey{Key: &key.PublicKey, KeyID: id, Algorithm: "ES256", Use: "sig"})
	}
	return answered(200, map[string]any{"keys": set}), nil
}

func answered(status int, body any) *http.Response {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(encoded))}
}

func newAuthority(t testing.TB, ids ...string) *authority {
	t.Helper()
	a := &authority{keys: map[string]*ecdsa.PrivateKey{}}
	for _, id := range ids {
		a.keys[id] = newKey(t)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) jwt(url string) *access.JWT {
	return access.NewJWT(access.JWTConfig{Issuer: issuerURL, Audience: "erlmcp", JWKSURL: url, Client: &http.Client{Transport: a}})
}

// token makes a token of a key that need not be published.
func token(t testing.TB, id string, algorithm jose.SignatureAlgorithm, key any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuerURL, "aud": "erlmcp", "sub": "bob", "exp": time.Now().Add(24 * time.Hour).Unix(), "jti": rand.Text(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeysAreFoundByDiscovery(t *testing.T) {
	a := newAuthority(t, "k1")
	p, err := a.jwt("").Authenticate(t.Context(), token(t, "k1", jose.ES256, a.keys["k1"]))
	if err != nil || p.ID != issuerURL+"#bob" || p.Role != registryv1.Role_ROLE_USER {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestAPublishedSymmetricKeyVerifiesNothing(t *testing.T) {
	a := newAuthority(t, "k1")
	j := a.jwt(issuerURL)
	for _, id := range []string{"shared", ""} {
		_, err := j.Authenticate(t.Context(), token(t, id, jose.HS256, []byte(strings.Repeat("shared", 6))))
		if !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("got %v", err)
		}
	}
}

func TestKeysAreChangedByTheirIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, "k1")
		j := a.jwt(issuerURL)
		old := a.keys["k1"]
		if _, err := j.Authenticate(t.Context(), token(t, "k1", jose.ES256, old)); err != nil {
			t.Fatal(err)
		}
		a.keys = map[string]*ecdsa.PrivateKey{"k2": newKey(t)}
		time.Sleep(10 * time.Second)
		if _, err := j.Authenticate(t.Context(), token(t, "k2", jose.ES256, a.keys["k2"])); err != nil {
			t.Errorf("the new key: %v", err)
		}
		if _, err := j.Authenticate(t.Context(), token(t, "k1", jose.ES256, old)); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("the withdrawn key: %v", err)
		}
		withdrawn := a.keys["k2"]
		a.keys = map[string]*ecdsa.PrivateKey{"k3": newKey(t)}
		time.Sleep(time.Hour) // no token makes us ask, but time does
		if _, err := j.Authenticate(t.Context(), token(t, "k2", jose.ES256, withdrawn)); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("a key that was withdrawn long ago: %v", err)
		}
	})
}

func TestTokensThatNameUnknownKeysDontFloodTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, "k1")
		j := a.jwt(issuerURL)
		stranger := newKey(t)
		for range 100 {
			if _, err := j.Authenticate(t.Context(), token(t, rand.Text(), jose.ES256, stranger)); !errors.Is(err, access.ErrUnauthenticated) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if a.asked > 3 {
			t.Errorf("the issuer was asked %d times in 10 s", a.asked)
		}
	})
}

func TestAnIssuersOutageHoldsNobodyUp(t *testing.T) {
	outages := map[string]func(*http.Request) (*http.Response, error){
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"hangs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"fails": func(*http.Request) (*http.Response, error) { return answered(503, "later"), nil },
		"lies":  func(*http.Request) (*http.Response, error) { return answered(200, "no keys at all"), nil },
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t, "k1", "k2")
				a.answer = outage
				j := a.jwt(issuerURL)
				began := time.Now()
				first, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 2)
				go func() {
					_, err := j.Authenticate(first, token(t, "k1", jose.ES256, a.keys["k1"]))
					done <- err
				}()
				synctest.Wait()
				impatient, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := j.Authenticate(impatient, token(t, "k1", jose.ES256, a.keys["k1"])); !errors.Is(err, access.ErrUnavailable) {
					t.Errorf("while the first waits: %v", err)
				}
				if waited := time.Since(began); waited > time.Second {
					t.Errorf("it waited %v", waited)
				}
				if err := <-done; !errors.Is(err, access.ErrUnavailable) {
					t.Errorf("the first: %v", err)
				}
				failed := time.Now()
				for range 10 {
					if _, err := j.Authenticate(t.Context(), token(t, "k1", jose.ES256, a.keys["k1"])); !errors.Is(err, access.ErrUnavailable) {
						t.Errorf("afterwards: %v", err)
					}
				}
				if waited := time.Since(failed); waited != 0 {
					t.Errorf("those that came later waited %v", waited)
				}

				a.answer = nil
				time.Sleep(10 * time.Second)
				good := token(t, "k1", jose.ES256, a.keys["k1"])
				if _, err := j.Authenticate(t.Context(), good); err != nil {
					t.Errorf("once it is back: %v", err)
				}
				a.answer = outage
				time.Sleep(time.Hour)
				if _, err := j.Authenticate(t.Context(), token(t, "k2", jose.ES256, a.keys["k2"])); err != nil {
					t.Errorf("away again, with keys that are held: %v", err)
				}
			})
		})
	}
}

// An issuer may move its keys within TLS; a redirect out of it would let whoever sits there give keys of their own.
func TestKeysAreNotFetchedOutsideOfTLS(t *testing.T) {
	for to, want := range map[string]error{"https://elsewhere.example/keys": nil, "http://elsewhere.example/keys": access.ErrUnavailable} {
		a := newAuthority(t, "k1")
		a.answer = func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "elsewhere.example" {
				a.answer = nil
				return a.RoundTrip(r)
			}
			moved := answered(http.StatusFound, nil)
			moved.Header.Set("Location", to)
			return moved, nil
		}
		if _, err := a.jwt(issuerURL+"/keys").Authenticate(t.Context(), token(t, "k1", jose.ES256, a.keys["k1"])); !errors.Is(err, want) {
			t.Errorf("moved to %s: %v, want %v", to, err, want)
		}
	}
}

// FuzzAuthenticate: nothing but a credential gets in, and the rest breaks nothing.
func FuzzAuthenticate(f *testing.F) {
	a := newAuthority(f, "k1")
	record, secret, err := access.NewKey("alice", registryv1.Role_ROLE_ADMIN, "", time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	var keys access.KeySet
	keys.Apply(true, []*registryv1.KeyRecord{record}, nil)
	chain := access.Chain{Keys: &keys, Tokens: a.jwt(issuerURL)}
	f.Add("erlmcp_" + record.GetKey().GetId() + "_x")
	f.Add(secret[:len(secret)-1])
	f.Add(token(f, "k1", jose.ES256, newKey(f)))
	f.Add("e30.e30.e30")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.")
	f.Fuzz(func(t *testing.T, bearer string) {
		if p, err := chain.Authenticate(t.Context(), bearer); err == nil || p != (access.Principal{}) {
			t.Errorf("%q got in as %v", bearer, p)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	a := newAuthority(b, "k1")
	j := a.jwt(issuerURL)
	bearer := token(b, "k1", jose.ES256, a.keys["k1"])
	record, secret, err := access.NewKey("alice", registryv1.Role_ROLE_ADMIN, "", time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	var keys access.KeySet
	keys.Apply(true, []*registryv1.KeyRecord{record}, nil)
	for name, c := range map[string]struct {
		by    access.Authenticator
		token string
	}{"key": {&keys, secret}, "known token": {j, bearer}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.by.Authenticate(b.Context(), c.token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
