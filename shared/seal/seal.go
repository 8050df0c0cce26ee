// Package seal makes everything that is secret from the cluster secret: tokens that only services of one cluster
// can make and read, credentials between services, and their certificates. It must not know what is in a token.
// Start at [New].
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
)

// MinSecret is how long a cluster secret must be, in bytes.
const MinSecret = 32

// MaxToken is the longest token that Open looks at, and MaxPlaintext the longest plaintext that makes one, in bytes.
const (
	MaxToken     = 64 << 10
	MaxPlaintext = MaxToken*3/4 - 1 - 12 - 16
)

// ErrForged: the token was not made here for this purpose and binding.
var ErrForged = errors.New("the token is not genuine")

// Keys are derived from one or more cluster secrets: the first one makes tokens, all of them read. So a secret
// is changed without a pause: first add the new one behind the old everywhere, then put it first, then drop the
// old. Keys are safe for concurrent use.
type Keys struct {
	secrets [][]byte
	ids     []byte   // of the secrets; a token's first byte, so that one attempt opens it
	signing [][]byte // keys of service credentials, in the order of secrets
	aeads   sync.Map // purpose -> []cipher.AEAD, in the order of secrets
}

// encoding has one spelling for each token.
var encoding = base64.RawURLEncoding.Strict()

// New makes Keys. The error says which secret is unfit, and what to do.
func New(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("the cluster secret is missing; " + howTo)
	}
	k := &Keys{}
	for _, s := range secrets {
		if err := Weak(s); err != nil {
			return nil, err
		}
		s = bytes.Clone(s) // whoever gave it may wipe it
		k.secrets = append(k.secrets, s)
		k.ids = append(k.ids, derive(s, "erlmcp key id", 1)[0])
		k.signing = append(k.signing, derive(s, "erlmcp service credential v1", sha256.Size))
	}
	return k, nil
}

// Generate makes a cluster secret.
func Generate() []byte {
	b := make([]byte, 48)
	_, _ = rand.Read(b) // never fails
	return []byte(base64.StdEncoding.EncodeToString(b))
}

// Derive returns n bytes that only those who have the first secret can know, others for each purpose. n is at
// most 8160.
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
// bound, which is not in it. Purposes are constants of the code: each one's keys are kept. Nonces are random, so one
// secret is good for some 2^36 tokens of a purpose: a thousand each second for two years. A plaintext beyond
// MaxPlaintext makes a token that Open refuses.
func (k *Keys) Seal(purpose string, plaintext, bound []byte) string {
	aead := k.ciphers(purpose)[0]
	sealed := make([]byte, 1, 1+len(plaintext)+aead.Overhead())
	sealed[0] = k.ids[0]
	return encoding.EncodeToString(aead.Seal(sealed, nil, plaintext, bound))
}

// Open returns what a token was made of, or ErrForged.
func (k *Keys) Open(purpose, token string, bound []byte) ([]byte, error) {
	if len(token) > MaxToken {
		return nil, ErrForged
	}
	sealed, err := decode(token)
	if err != nil || len(sealed) == 0 {
		return nil, ErrForged
	}
	for i, aead := range k.ciphers(purpose) {
		if k.ids[i] != sealed[0] {
			continue
		}
		// Not in place: where two secrets have one id, a failed attempt wipes what the second needs.
		if plain, err := aead.Open(nil, nil, sealed[1:], bound); err == nil {
			return plain, nil
		}
	}
	return nil, ErrForged
}

// decode reads the one spelling of what was encoded; the package base64 skips line breaks.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrForged
	}
	return encoding.DecodeString(s)
}
