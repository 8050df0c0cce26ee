package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CredentialLife is how long a service credential is good, and how far clocks may differ.
const (
	CredentialLife = 60 * time.Second
	maxSkew        = 30 * time.Second
)

// ErrCredential: a service credential was not made from this cluster's secret, or is out of date.
var ErrCredential = errors.New("the service credential is not valid: are the cluster secrets equal and the clocks right?")

// maxNode is the longest name of a node that Check looks at, in bytes.
const maxNode = 512

// Credential proves to other services that node is one of them. It is "<expiry>.<node>.<HMAC-SHA256 of both>", the
// expiry in Unix seconds.
func (k *Keys) Credential(node string, now time.Time) string {
	body := strconv.FormatInt(now.Add(CredentialLife).Unix(), 10) + "." + encoding.EncodeToString([]byte(node))
	return body + "." + encoding.EncodeToString(sign(k.signing[0], body))
}

// Check returns the node that made a credential, or ErrCredential.
func (k *Keys) Check(credential string, now time.Time) (node string, err error) {
	end := strings.LastIndexByte(credential, '.')
	if end < 0 || len(credential) > 2*maxNode {
		return "", ErrCredential
	}
	body := credential[:end]
	mac, err := decode(credential[end+1:])
	if err != nil {
		return "", ErrCredential
	}
	if !slices.ContainsFunc(k.signing, func(key []byte) bool { return hmac.Equal(mac, sign(key, body)) }) {
		return "", ErrCredential
	}
	expiry, encoded, _ := strings.Cut(body, ".")
	unix, err := strconv.ParseInt(expiry, 10, 64)
	if err != nil {
		return "", ErrCredential
	}
	if left := time.Unix(unix, 0).Sub(now); left < -maxSkew || left > CredentialLife+maxSkew {
		return "", ErrCredential
	}
	name, err := decode(encoded)
	if err != nil || len(name) == 0 {
		return "", ErrCredential
	}
	return string(name), nil
}

func sign(key []byte, body string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(body))
	return h.Sum(nil)
}
