package grpcreflect

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Config says which service to call, and how. Only Target is required.
type Config struct {
	// Target is host:port, or any target that gRPC's resolvers know.
	Target string
	// TLS towards the service; nil for plain text. An empty one trusts the system's authorities.
	TLS *tls.Config
	// Services by their full names; all but reflection and health when empty.
	Services []string
	// Metadata is sent with each call, reflection's too. Its values are secrets: they are never logged, nor
	// part of an error. The value of a key that ends in "-bin" is base64.
	Metadata map[string]string
	// CallTimeout is the longest one call may take, where its context allows more; 5 minutes when 0.
	CallTimeout time.Duration
	// DescribeTimeout is the longest that reading descriptors may take; 20 seconds when 0.
	DescribeTimeout time.Duration
	// MaxMessage is the longest message read from the service, in bytes of protobuf; 4 MiB when 0, gRPC's
	// custom. Small messages can decode to much: memory for a few dozen times this is needed at worst.
	MaxMessage int
	// MaxResult is the longest result, in bytes of JSON; 16 MiB when 0. MCP has the JSON stand in a result
	// twice, as text and as structure: the whole may be a little over twice as long.
	MaxResult int
	// MaxMessages is how many messages a stream may bring; 1,000 when 0.
	MaxMessages int
	// Dial is added to the options of the connection, behind ours.
	Dial []grpc.DialOption
	// Log is told which methods are left out and why; nil for none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.CallTimeout <= 0 {
		c.CallTimeout = 5 * time.Minute
	}
	if c.DescribeTimeout <= 0 {
		c.DescribeTimeout = 20 * time.Second
	}
	if c.MaxMessage <= 0 {
		c.MaxMessage = 4 << 20
	}
	if c.MaxResult <= 0 {
		c.MaxResult = 16 << 20
	}
	if c.MaxMessages <= 0 {
		c.MaxMessages = 1000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// outgoing checks Metadata and returns it as gRPC sends it.
func (c Config) outgoing() (metadata.MD, error) {
	md := metadata.MD{}
	for key, value := range c.Metadata {
		name := strings.ToLower(key)
		if err := checkKey(name); err != nil {
			return nil, fmt.Errorf("metadata %q: %w", key, err)
		}
		if strings.HasSuffix(name, "-bin") {
			decoded, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf(`metadata %q: values of "-bin" keys are base64, and this one is not`, key)
			}
			value = string(decoded)
		} else if strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return nil, fmt.Errorf(`metadata %q: the value is not printable ASCII; use a key that ends in "-bin"`, key)
		}
		md.Append(name, value)
	}
	return md, nil
}

func checkKey(name string) error {
	valid := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
	if !valid {
		return errors.New("a key is made of letters, digits, '-', '_' and '.'")
	}
	if strings.HasPrefix(name, "grpc-") {
		return errors.New(`keys that start with "grpc-" belong to gRPC itself`)
	}
	return nil
}
