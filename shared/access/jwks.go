package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of asking an issuer for its keys.
const (
	// keysTimeout is how long one attempt may take.
	keysTimeout = 5 * time.Second
	// keysPause is between two attempts: a token names its key itself, so anybody can name one that is not there.
	keysPause = 5 * time.Second
	// keysAge is when keys are asked for again, since the issuer may have withdrawn one.
	keysAge = 10 * time.Minute
	// maxKeys and maxDocument bound what an issuer may say.
	maxKeys     = 100
	maxDocument = 1 << 20
)

// errNoKeys: the issuer's keys can't be had now.
var errNoKeys = errors.New("the issuer's keys can't be had now")

// asymmetric are the signatures that count where keys are published.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// issuerKeys are the keys that an issuer publishes. While it is away the keys that were had last go on counting,
// and a token with a key that is not among them is answered at once. Safe for concurrent use.
type issuerKeys struct {
	issuer string
	url    string // of the key set; found by OpenID discovery where empty
	client *http.Client

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	asked   time.Time     // when the last attempt ended
	failed  error         // of the last attempt
	waiting chan struct{} // closed when the attempt that runs ends; nil while none does
}

// VerifySignature implements oidc.KeySet. It fails with errNoKeys, or for a token that is not genuine.
func (k *issuerKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, asymmetric)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errors.New("the token is not signed as it must be")
	}
	keys, fresh := k.held()
	if payload, ok := verify(signed, keys); ok && fresh {
		return payload, nil
	}
	keys, err = k.ask(ctx)
	if payload, ok := verify(signed, keys); ok {
		return payload, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, errors.New("none of the issuer's keys signed the token")
}

// verify tries the keys that a token may be signed with.
func verify(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	header := signed.Signatures[0].Header
	for _, key := range keys {
		if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := signed.Verify(key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// held returns the keys that are known, and whether they need not be asked for again.
func (k *issuerKeys) held() (keys []jose.JSONWebKey, fresh bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys, time.Since(k.asked) < keysAge || k.waiting != nil
}

// ask returns the issuer's keys, by asking it unless that was just done. Where it fails, the keys are those that
// were had last.
func (k *issuerKeys) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	if !k.asked.IsZero() && time.Since(k.asked) < keysPause {
		defer k.mu.Unlock()
		return k.keys, k.failed
	}
	if attempt := k.waiting; attempt != nil {
		k.mu.Unlock()
		select {
		case <-attempt:
		case <-ctx.Done():
			return nil, errNoKeys
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.keys, k.failed
	}
	attempt := make(chan struct{})
	k.waiting = attempt
	k.mu.Unlock()

	// Others wait for this too, so it does not end with its caller.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
	defer cancel()
	keys, err := k.fetch(asking)

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = nil; err != nil {
		k.failed = fmt.Errorf("%w: %w", errNoKeys, err)
	} else {
		k.keys = keys
	}
	k.asked, k.waiting = time.Now(), nil
	close(attempt)
	return k.keys, k.failed
}

// fetch asks the issuer.
func (k *issuerKeys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	url := k.url
	if url == "" {
		var found struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != k.issuer || found.Keys == "" {
			return nil, fmt.Errorf("OpenID discovery at %s describes another issuer, or no keys", k.issuer)
		}
		url = found.Keys
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, url, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, encoded := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		// Kinds that are not known here are passed over. A symmetric key that is published verifies nothing.
		if key.UnmarshalJSON(encoded) == nil && key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (k *issuerKeys) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	req.Header.Set("Accept", "application/json")
	response, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking for keys: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered with status %d", url, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return fmt.Errorf("reading %s: %w", url, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading %s: %w", url, err)
	}
	return nil
}
