// Package seal makes everything that is secret from the cluster secret: tokens that only services of one cluster
// can make and read, credentials between services, and their certificates. It must not know what is in a token.
// Start at [New].
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// MinSecret is how long a cluster secret must be, in bytes.
const MinSecret = 32

// MaxToken is the longest token that Open looks at, in bytes.
const MaxToken = 4096

// ErrForged: the token was not made here for this purpose and binding.
var ErrForged = errors.New("the token is not genuine")

// Keys are derived from one or more cluster secrets: the first one makes tokens, all of them read. So a secret
// is changed without a pause: first add the new one behind the old everywhere, then put it first, then drop the
// old. Keys are safe for concurrent use.
type Keys struct {
	secrets [][]byte
	ids     []byte   // of the secrets; first byte of a token
	aeads   sync.Map // purpose -> []cipher.AEAD, in the order of secrets
}

// New makes Keys. The error says which secret is unfit, and what to do.
func New(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("the cluster secret is missing; make one with: openssl rand -base64 48")
	}
	k := &Keys{}
	for _, s := range secrets {
		if err := Weak(s); err != nil {
			return nil, err
		}
		k.secrets = append(k.secrets, s)
		id := derive(s, "erlmcp key id", 1)
		k.ids = append(k.ids, id[0])
	}
	return k, nil
}

// Weak says why a secret must not be used, or nil.
func Weak(secret []byte) error {
	if len(secret) < MinSecret {
		return fmt.Errorf("the cluster secret has %d bytes and needs at least %d; make one with: openssl rand -base64 48", len(secret), MinSecret)
	}
	distinct := map[byte]bool{}
	for _, b := range secret {
		distinct[b] = true
	}
	lower := strings.ToLower(string(secret))
	if len(distinct) < 8 || strings.Contains(lower, "change-me") || strings.Contains(lower, "changeme") || strings.Contains(lower, "your-") {
		return errors.New("the cluster secret can be guessed; make one with: openssl rand -base64 48")
	}
	return nil
}

// Generate makes a cluster secret.
func Generate() []byte {
	b := make([]byte, 48)
	_, _ = rand.Read(b) // never fails
	return []byte(base64.StdEncoding.EncodeToString(b))
}

// Derive returns n bytes that only those who have the first secret can know, others for each purpose.
func (k *Keys) Derive(purpose string, n int) []byte { return derive(k.secrets[0], purpose, n) }

func derive(secret []byte, purpose string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, purpose, n)
	if err != nil {
		panic("seal: deriving a key: " + err.Error()) // only for n beyond 8160
	}
	return b
}

func (k *Keys) ciphers(purpose string) []cipher.AEAD {
	if c, ok := k.aeads.Load(purpose); ok {
		return c.([]cipher.AEAD)
	}
	var ciphers []cipher.AEAD
	for _, s := range k.secrets {
		block, err := aes.NewCipher(derive(s, purpose, 32))
		if err != nil {
			panic("seal: " + err.Error()) // the key has the right length
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic("seal: " + err.Error())
		}
		ciphers = append(ciphers, aead)
	}
	k.aeads.Store(purpose, ciphers)
	return ciphers
}

// Seal makes a token of plaintext for a purpose: AES-256-GCM, base64url. It can be opened only with the same
// bound, which is not in it. Purposes are constants of the code: each one's keys are kept.
func (k *Keys) Seal(purpose string, plaintext, bound []byte) string {
	aead := k.ciphers(purpose)[0]
	sealed := make([]byte, 1, 1+len(plaintext)+aead.Overhead())
	sealed[0] = k.ids[0]
	return base64.RawURLEncoding.EncodeToString(aead.Seal(sealed, nil, plaintext, bound))
}

// Open returns what a token was made of, or ErrForged.
func (k *Keys) Open(purpose, token string, bound []byte) ([]byte, error) {
	if len(token) > MaxToken {
		return nil, ErrForged
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) < 1 {
		return nil, ErrForged
	}
	for i, aead := range k.ciphers(purpose) {
		if k.ids[i] != sealed[0] {
			continue
		}
		if plain, err := aead.Open(nil, nil, sealed[1:], bound); err == nil {
			return plain, nil
		}
	}
	return nil, ErrForged
}
