package catalog

import (
	"crypto/sha256"
	"encoding/hex"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// MaxName is the longest name of a tool or prompt that clients are shown: many of them refuse longer ones.
const MaxName = 64

// Prefix returns what stands before the server's names in views of several servers.
func Prefix(s *registryv1.Server) string {
	if s.Prefix != nil {
		return s.GetPrefix()
	}
	return s.GetName() + "_"
}

// PublicName returns how a server's tool or prompt is named in views of several servers: prefix and name. A
// name beyond [MaxName] keeps its start and ends in eight hexadecimal digits of its SHA-256, so that it is the
// same in every process and after every restart.
func PublicName(s *registryv1.Server, name string) string {
	prefix := Prefix(s)
	full := prefix + name
	if len(full) <= MaxName || prefix == "" {
		return full
	}
	sum := sha256.Sum256([]byte(full))
	return full[:MaxName-9] + "_" + hex.EncodeToString(sum[:4])
}
