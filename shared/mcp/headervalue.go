package mcp

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"erlmcp.dev/shared/jsonrpc"
)

// EncodeHeader writes a value as a header that mirrors the body: plain where that is possible, else in the sentinel
// form (specification 2026-07-28, streamable-http).
func EncodeHeader(value string) string {
	plain := value == strings.Trim(value, " \t") && !(strings.HasPrefix(value, "=?base64?") && strings.HasSuffix(value, "?="))
	for i := 0; plain && i < len(value); i++ {
		plain = value[i] >= 0x20 && value[i] < 0x7f || value[i] == '\t'
	}
	if plain {
		return value
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}

// SetHeaderParams mirrors a call's arguments in headers, as its tool asks. Arguments that are absent or null have
// none.
func SetHeaderParams(h http.Header, params []HeaderParam, arguments json.RawMessage) {
	for _, p := range params {
		argument := jsonrpc.Get(arguments, p.Path...)
		if argument == nil || string(argument) == "null" {
			continue
		}
		value := string(argument)
		if s, ok := jsonrpc.GetString(arguments, p.Path...); ok {
			value = s
		}
		h[http.CanonicalHeaderKey(HeaderParamPrefix+p.Header)] = []string{EncodeHeader(value)}
	}
}
