package registry

import (
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// check says what is wrong with a declaration that keeps the proto's rules: a *fieldError, or nil. It keeps out
// what could never work, and secrets in places that are shown.
func check(s *registryv1.Server) error {
	switch e := s.GetEndpoint().(type) {
	case *registryv1.Server_Http:
		return checkHTTP(e.Http)
	case *registryv1.Server_Stdio:
		return checkStdio(e.Stdio)
	case *registryv1.Server_Grpc:
		return checkGRPC(e.Grpc)
	}
	return &fieldError{"server", "say where it is: http, stdio or grpc"}
}

func checkHTTP(e *registryv1.HttpEndpoint) error {
	const field = "server.http"
	u, err := url.Parse(e.GetUrl())
	switch {
	case err != nil || u.Host == "":
		return &fieldError{field + ".url", "not a URL with a host; write it like https://host/mcp"}
	case u.User != nil:
		return &fieldError{field + ".url", "user and password in a URL would be shown to viewers; put them in the header Authorization"}
	}
	for name, value := range e.GetHeaders() {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return &fieldError{field + ".headers", fmt.Sprintf("%q is no header's name, or its value has characters that headers can't", name)}
		}
	}
	return nil
}

func checkStdio(e *registryv1.StdioEndpoint) error {
	const field = "server.stdio"
	for i, word := range e.GetCommand() {
		if i == 0 && word == "" || strings.Contains(word, "\x00") {
			return &fieldError{field + ".command", "needs a program's name, and no NUL characters"}
		}
	}
	for name, value := range e.GetEnv() {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return &fieldError{field + ".env", fmt.Sprintf("%q is no variable's name, or its value has a NUL character", name)}
		}
	}
	return nil
}

func checkGRPC(e *registryv1.GrpcEndpoint) error {
	for name, value := range e.GetMetadata() {
		lower := strings.ToLower(name)
		if !httpguts.ValidHeaderFieldName(name) || lower != name || strings.HasPrefix(name, "grpc-") || !httpguts.ValidHeaderFieldValue(value) {
			return &fieldError{"server.grpc.metadata", fmt.Sprintf("%q is no metadata key (lower case, not grpc-...), or its value has characters that metadata can't", name)}
		}
	}
	return nil
}
