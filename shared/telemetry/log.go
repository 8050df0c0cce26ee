package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Formats of a log.
const (
	FormatAuto = "auto" // text on a terminal, JSON elsewhere
	FormatJSON = "json" // one JSON object a line
	FormatText = "text" // key=value
)

// LogConfig says how to log. The zero value logs at info to standard output.
type LogConfig struct {
	// Output takes the lines, each in one Write; standard output when nil.
	Output io.Writer
	// Format is one of the formats above; FormatAuto when empty.
	Format string
	// Level is the lowest level that is written. Whoever holds it may change it at any time, from any goroutine;
	// info, for good, when nil.
	Level *slog.LevelVar
}

// NewLog makes a log whose lines hold no secrets in attributes: see [Scrub] and the keys in redact.go. Messages are
// not looked into; they are constant text.
func NewLog(c LogConfig) *slog.Logger {
	if c.Output == nil {
		c.Output = os.Stdout
	}
	if c.Level == nil {
		c.Level = new(slog.LevelVar)
	}
	options := &slog.HandlerOptions{Level: c.Level, ReplaceAttr: redact}
	auto := c.Format == FormatAuto || c.Format == ""
	if c.Format == FormatText || auto && IsTerminal(c.Output) {
		return slog.New(traced{slog.NewTextHandler(c.Output, options)})
	}
	return slog.New(traced{slog.NewJSONHandler(c.Output, options)})
}

// traced adds to each line the trace and the span that it was written in, if any.
type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (t traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (t traced) WithGroup(name string) slog.Handler { return traced{t.Handler.WithGroup(name)} }

// ParseLevel reads a level as operators write it: debug, info, warn (or warning), error.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown log level %q: use debug, info, warn or error", s)
}

// IsTerminal reports whether people read what is written to w, rather than programs.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	stat, err := f.Stat()
	return err == nil && stat.Mode()&os.ModeCharDevice != 0
}
