package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"erlmcp.dev/shared/telemetry"
)

type key struct{ secret string }

func (k key) LogValue() slog.Value { return slog.GroupValue(slog.String("token", k.secret)) }

func TestNoAttributeLeaksASecret(t *testing.T) {
	const leak = "hunter2"
	u, err := url.Parse("postgres://erlmcp:" + leak + "@db:5432/erlmcp")
	if err != nil {
		t.Fatal(err)
	}
	for name, attr := range map[string]slog.Attr{
		"a plain key":            slog.String("password", leak),
		"another case":           slog.String("Authorization", "Bearer "+leak),
		"part of a key":          slog.String("cluster_secret_file_text", leak),
		"with separators":        slog.String("X-Api-Key", leak),
		"a value of any type":    slog.Any("session_token", []byte(leak)),
		"in a group":             slog.Group("request", slog.String("cookie", leak)),
		"a secret group":         slog.Group("credentials", slog.String("user", leak)),
		"a value that resolves":  slog.Any("key", key{leak}),
		"headers":                slog.Any("headers", http.Header{"Authorization": {leak}, "Accept": {"*/*"}}),
		"a map":                  slog.Any("env", map[string]string{"DB_PASSWORD": leak}),
		"a map of any":           slog.Any("fields", map[string]any{"token": leak}),
		"a connection string":    slog.String("store", u.String()),
		"a URL":                  slog.Any("store", u),
		"an error with a string": slog.Any("error", fmt.Errorf("dial: %w", errors.New("cannot reach "+u.String()))),
		"keywords":               slog.String("store", "host=db user=erlmcp password="+leak+" dbname=erlmcp"),
		"quoted keywords":        slog.Any("error", errors.New("parse: host=db PASSWORD = 'a "+leak+"'")),
	} {
		for _, format := range []string{telemetry.FormatJSON, telemetry.FormatText} {
			var out bytes.Buffer
			telemetry.NewLog(telemetry.LogConfig{Output: &out, Format: format}).Info("hello", attr)
			if strings.Contains(out.String(), leak) || !strings.Contains(out.String(), "hello") {
				t.Errorf("%s, as %s: %s", name, format, out.String())
			}
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	for _, s := range []string{"https://example.test/mcp?q=a", "weather", "a@b", "the server refused the request"} {
		var out bytes.Buffer
		telemetry.NewLog(telemetry.LogConfig{Output: &out}).Info("hello", "server", s, "error", errors.New(s))
		var line struct{ Server, Error string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Server != s || line.Error != s {
			t.Errorf("%q became %+v", s, line)
		}
	}
}

func TestTheLevelChangesWhileTheLogIsInUse(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := telemetry.NewLog(telemetry.LogConfig{Output: &out, Level: level}).With("node", "a@b")
	log.Debug("quiet")
	level.Set(slog.LevelDebug)
	log.Debug("heard")
	level.Set(slog.LevelError)
	log.Warn("quiet again")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "heard") {
		t.Error(got)
	}
}

func TestAPipeGetsJSON(t *testing.T) {
	for _, format := range []string{"", telemetry.FormatAuto, telemetry.FormatJSON} {
		var out bytes.Buffer
		telemetry.NewLog(telemetry.LogConfig{Output: &out, Format: format}).Info("hello")
		if !json.Valid(out.Bytes()) {
			t.Errorf("format %q: %s", format, out.String())
		}
	}
}

func TestLevelsAreReadAsOperatorsWriteThem(t *testing.T) {
	for s, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "INFO": slog.LevelInfo, " warn ": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError,
	} {
		if got, err := telemetry.ParseLevel(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "verbose", "info+1"} {
		if _, err := telemetry.ParseLevel(s); err == nil {
			t.Errorf("%q passed", s)
		}
	}
}

func FuzzScrubHidesThePassword(f *testing.F) {
	f.Add("hunter2", "db:5432/erlmcp")
	f.Add("p:w", "db")
	f.Fuzz(func(t *testing.T, password, rest string) {
		if password == "" || strings.ContainsAny(password, " \t\n\v\f\r") || strings.Contains(rest, password) ||
			strings.Contains("cannot reach postgres://[redacted]@", password) {
			return // a password with a space, or one that cannot be told from the rest
		}
		if got := telemetry.Scrub("cannot reach postgres://u:" + password + "@" + rest); strings.Contains(got, password) {
			t.Errorf("%q is in %q", password, got)
		}
	})
}
