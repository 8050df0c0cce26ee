package dial

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// first is a log handler that passes on each thing the first time it is said. A probe says the same of a server
// each time.
type first struct {
	slog.Handler
	prefix string // the attributes and groups that the logger has
	said   *said
}

// said is what was passed on.
type said struct {
	mu    sync.Mutex
	lines map[string]struct{}
}

// maxSaid is how much is remembered; beyond it all is forgotten, and may be said again.
const maxSaid = 4096

func newFirst(to slog.Handler) *first {
	return &first{Handler: to, said: &said{lines: map[string]struct{}{}}}
}

// Handle implements slog.Handler.
func (f *first) Handle(ctx context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString(f.prefix)
	line.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		line.WriteByte(0)
		line.WriteString(a.String())
		return true
	})
	if !f.said.add(line.String()) {
		return nil
	}
	return f.Handler.Handle(ctx, r)
}

// add reports whether a line is new.
func (s *said) add(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.lines[line]; known {
		return false
	}
	if len(s.lines) >= maxSaid {
		clear(s.lines)
	}
	s.lines[line] = struct{}{}
	return true
}

// WithAttrs implements slog.Handler.
func (f *first) WithAttrs(attrs []slog.Attr) slog.Handler {
	prefix := f.prefix
	for _, a := range attrs {
		prefix += a.String() + "\x00"
	}
	return &first{f.Handler.WithAttrs(attrs), prefix, f.said}
}

// WithGroup implements slog.Handler.
func (f *first) WithGroup(name string) slog.Handler {
	return &first{f.Handler.WithGroup(name), f.prefix + name + ".", f.said}
}
