package config

import (
	"log/slog"
	"slices"
	"strings"
)

// Secret is text that is never printed: every common way of printing shows "***". Convert it to string to use it.
type Secret string

const masked = "***"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and so JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// minSecret is the shortest secret that keys may be derived from, in bytes.
const minSecret = 32

// fewestRunes is how many different characters a random secret of minSecret hex digits has at the very least.
const fewestRunes = 8

// commonPasswords are refused in production wherever a password is asked for.
var commonPasswords = []string{
	"admin", "administrator", "default", "erlang", "erlmcp", "letmein", "master", "nocookie", "pass", "passw0rd", "password",
	"postgres", "redis", "root", "secret", "test", "user", "123456", "12345678", "123456789", "qwerty",
}

// placeholders mark the values that examples and guides print.
var placeholders = []string{"changeme", "changethis", "changeit", "replaceme", "replacewith", "yoursecure", "yourpassword", "yoursecret", "insecure", "placeholder", "notasecret", "supersecret"}

// weak reports whether everybody knows or guesses a secret.
func weak(secret string) bool {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, secret)
	if slices.Contains(commonPasswords, plain) {
		return true
	}
	for _, p := range placeholders {
		if strings.Contains(plain, p) {
			return true
		}
	}
	return false
}

// monotonous reports whether a long secret repeats so few characters that it can't be random.
func monotonous(secret string) bool {
	seen := map[rune]bool{}
	for _, r := range secret {
		seen[r] = true
	}
	return len(seen) < fewestRunes
}
