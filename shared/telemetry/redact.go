package telemetry

import (
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const hidden = "[redacted]"

// secretWords mark an attribute as secret wherever they stand in its key, in any case, with or without separators.
// A key that only looks secret (a count of tokens) is hidden too: that costs less than a leak.
var secretWords = []string{
	"authorization", "secret", "password", "passwd", "token", "cookie", "apikey", "privatekey", "credential", "dsn",
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "", " ", "")

func isSecret(key string) bool {
	key = separators.Replace(strings.ToLower(key))
	for _, word := range secretWords {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// redact is slog's ReplaceAttr. It sees an attribute's resolved value and the names of the groups around it.
func redact(groups []string, a slog.Attr) slog.Attr {
	if isSecret(a.Key) {
		return slog.String(a.Key, hidden)
	}
	for _, g := range groups {
		if isSecret(g) {
			return slog.String(a.Key, hidden)
		}
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); mayHoldUserinfo(s) {
			a.Value = slog.StringValue(Scrub(s))
		}
	case slog.KindAny:
		a.Value = redactAny(a.Value)
	}
	return a
}

func redactAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case error:
		return slog.StringValue(Scrub(x.Error()))
	case http.Header:
		return slog.AnyValue(redactMap(x, []string{hidden}))
	case map[string][]string:
		return slog.AnyValue(redactMap(x, []string{hidden}))
	case map[string]string:
		return slog.AnyValue(redactMap(x, hidden))
	case map[string]any:
		return slog.AnyValue(redactMap(x, any(hidden)))
	case *url.URL:
		if x != nil {
			return slog.StringValue(Scrub(x.String()))
		}
	}
	return v
}

func redactMap[V any](m map[string]V, instead V) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		if isSecret(k) {
			v = instead
		}
		out[k] = v
	}
	return out
}

var (
	userinfo     = regexp.MustCompile(`://\S*@`) // to the last @: a password may hold any other sign, unescaped by mistake
	keywordValue = regexp.MustCompile(`(?i)\b(password|sslpassword)\s*=\s*('[^']*'|\S+)`)
)

func mayHoldUserinfo(s string) bool {
	return strings.Contains(s, "://") && strings.Contains(s, "@") || strings.Contains(strings.ToLower(s), "password")
}

// Scrub hides the credentials that connection strings carry, in both of their forms: "scheme://user:password@host"
// and "password=...". All else stays. It is for errors of drivers, which like to quote what they were given.
func Scrub(s string) string {
	if !mayHoldUserinfo(s) {
		return s
	}
	s = userinfo.ReplaceAllString(s, "://"+hidden+"@")
	return keywordValue.ReplaceAllString(s, "$1="+hidden)
}
