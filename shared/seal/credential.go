package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
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

// Credential proves to other services that node is one of them.
func (k *Keys) Credential(node string, now time.Time) string {
	body := strconv.FormatInt(now.Add(CredentialLife).Unix(), 10) + "." + base64.RawURLEncoding.EncodeToString([]byte(node))
	return body + "." + base64.RawURLEncoding.EncodeToString(sign(k.secrets[0], body))
}

// Check returns the node that made a credential, or ErrCredential.
func (k *Keys) Check(credential string, now time.Time) (node string, err error) {
	if len(credential) > MaxToken {
		return "", ErrCredential
	}
	end := strings.LastIndexByte(credential, '.')
	if end < 0 {
		return "", ErrCredential
	}
	body := credential[:end]
	mac, err := base64.RawURLEncoding.Strict().DecodeString(credential[end+1:])
	if err != nil {
		return "", ErrCredential
	}
	genuine := false
	for _, s := range k.secrets {
		genuine = hmac.Equal(mac, sign(s, body)) || genuine
	}
	if !genuine {
		return "", ErrCredential
	}
	expires, encoded, _ := strings.Cut(body, ".")
	unix, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || now.After(time.Unix(unix, 0).Add(maxSkew)) || time.Unix(unix, 0).After(now.Add(CredentialLife+maxSkew)) {
		return "", ErrCredential
	}
	name, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", ErrCredential
	}
	return string(name), nil
}

func sign(secret []byte, body string) []byte {
	h := hmac.New(sha256.New, derive(secret, "erlmcp service credential v1", 32))
	h.Write([]byte(body))
	return h.Sum(nil)
}
