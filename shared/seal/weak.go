package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// howTo ends every refusal of a secret.
const howTo = "make one with: openssl rand -base64 48"

// fewestBytes is how many different bytes 32 random hex digits have at the very least, all but surely.
const fewestBytes = 8

// shortestPiece is how long the piece must be, in bytes, that a secret may consist of repetitions of.
const shortestPiece = 16

// shownSecrets are parts of the values that examples, guides and templates show, without their separators.
var shownSecrets = []string{
	"changeme", "changethis", "changeit", "replaceme", "replacewith", "yoursecure", "yourpassword", "yoursecret", "yourcookie",
	"yourerlang", "insecure", "placeholder", "notasecret", "supersecret",
}

// Weak says why a secret must not be used, or nil. It does not quote the secret.
func Weak(secret []byte) error {
	if len(secret) < MinSecret {
		return fmt.Errorf("the cluster secret has %d bytes and needs at least %d; %s", len(secret), MinSecret, howTo)
	}
	distinct := map[byte]bool{}
	for _, b := range secret {
		distinct[b] = true
	}
	if len(distinct) < fewestBytes || period(secret) < shortestPiece {
		return errors.New("the cluster secret repeats itself, so it can be guessed; " + howTo)
	}
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_. ", r) {
			return -1
		}
		return r
	}, strings.ToLower(string(secret)))
	for _, shown := range shownSecrets {
		if strings.Contains(plain, shown) {
			return fmt.Errorf("the cluster secret looks like an example's (%q), so it can be guessed; %s", shown, howTo)
		}
	}
	return nil
}

// period is the length of the shortest piece that s consists of repetitions of, the last one maybe cut off.
func period(s []byte) int {
	for n := 1; n < len(s); n++ {
		if bytes.Equal(s[n:], s[:len(s)-n]) {
			return n
		}
	}
	return len(s)
}
