package engine

import (
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"

	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// checkHeaders compares Mcp-Method and Mcp-Name with the body (specification 2026-07-28, streamable-http).
func checkHeaders(m *jsonrpc.Message, header http.Header) *refusal {
	if header == nil {
		return nil
	}
	method, r := single(header, mcp.HeaderMethod)
	if r != nil {
		return r
	}
	if method != m.Method {
		return mismatch("the header Mcp-Method differs from the body's method")
	}
	member := mcp.NamedBy(m.Method)
	if member == "" {
		return nil
	}
	name, r := single(header, mcp.HeaderName)
	if r != nil {
		return r
	}
	name, ok := decodeHeader(name)
	if !ok {
		return mismatch("the header Mcp-Name is not well-formed Base64")
	}
	if body, ok := jsonrpc.GetString(m.Params, member); ok && body != name {
		return mismatch("the header Mcp-Name differs from params." + member)
	}
	return nil
}

func mismatch(message string) *refusal {
	return refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, "%s", message)
}

// single returns a header that must stand exactly once.
func single(header http.Header, key string) (string, *refusal) {
	values := header[key]
	if len(values) != 1 {
		if len(values) == 0 {
			return "", mismatch("the header " + key + " is missing")
		}
		return "", mismatch("the header " + key + " stands more than once")
	}
	value := strings.Trim(values[0], " \t")
	if strings.IndexFunc(value, func(c rune) bool { return c < 0x20 && c != '\t' || c >= 0x7f }) >= 0 {
		return "", mismatch("the header " + key + " holds a character that must be encoded")
	}
	return value, nil
}

// decodeHeader undoes the sentinel form =?base64?...?= of a header's value; other values are literal.
func decodeHeader(value string) (string, bool) {
	inner, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value, true
	}
	inner, ok = strings.CutSuffix(inner, "?=")
	if !ok {
		return value, true
	}
	plain, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil {
		return "", false
	}
	return string(plain), true
}

// checkParamHeaders compares a tool's Mcp-Param-* headers with the call's arguments.
func checkParamHeaders(tool *catalog.Entry, arguments json.RawMessage, header http.Header) *refusal {
	if header == nil {
		return nil
	}
	for _, p := range tool.HeaderParams() {
		key := http.CanonicalHeaderKey(mcp.HeaderParamPrefix + p.Header)
		argument := jsonrpc.Get(arguments, p.Path...)
		if argument == nil || string(argument) == "null" {
			if len(header[key]) > 0 {
				return mismatch("the header " + key + " stands without its argument")
			}
			continue
		}
		value, r := single(header, key)
		if r != nil {
			return r
		}
		value, ok := decodeHeader(value)
		if !ok {
			return mismatch("the header " + key + " is not well-formed Base64")
		}
		if !sameArgument(p.Type, argument, value) {
			return mismatch("the header " + key + " differs from its argument")
		}
	}
	return nil
}

// sameArgument compares an argument with its header: integers by value too, everything else to the letter.
func sameArgument(kind string, argument json.RawMessage, value string) bool {
	if s, ok := text(argument); ok {
		return s == value
	}
	if kind == "integer" && string(argument) != value {
		a, okA := integer(string(argument))
		b, okB := integer(value)
		return okA && okB && a.Cmp(b) == 0
	}
	return string(argument) == value
}

// integer reads a decimal integer, also one that is written with a zero fraction. Exponents are refused: a
// short one can mean a number of any length.
func integer(s string) (*big.Int, bool) {
	if whole, fraction, ok := strings.Cut(s, "."); ok {
		if strings.Trim(fraction, "0") != "" {
			return nil, false
		}
		s = whole
	}
	if len(s) > 64 {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}

// mirrored are the headers that travel with a call to its server. A client whose transport has none, or whose era
// knows none, gets those that the tool asks for made here.
func mirrored(header http.Header, m *jsonrpc.Message, to *destination) http.Header {
	out := paramHeaders(header)
	if to.entry == nil || m.Method != mcp.MethodToolsCall || len(to.entry.HeaderParams()) == 0 {
		return out
	}
	if out == nil {
		out = http.Header{}
	}
	mcp.SetHeaderParams(out, to.entry.HeaderParams(), jsonrpc.Get(m.Params, "arguments"))
	return out
}

// paramHeaders are the headers that travel with a call to its server.
func paramHeaders(header http.Header) http.Header {
	var out http.Header
	for key, values := range header {
		if strings.HasPrefix(key, mcp.HeaderParamPrefix) || key == "Traceparent" || key == "Tracestate" || key == "Baggage" {
			if out == nil {
				out = http.Header{}
			}
			out[key] = values
		}
	}
	return out
}
