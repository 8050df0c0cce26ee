package testkit

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// Logger writes to the test's log, at every level. What is logged after the test's end is dropped, where
// t.Log would panic.
func Logger(t testing.TB) *slog.Logger {
	log := &testLog{t: t}
	t.Cleanup(log.end)
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testLog is the writer of one test's log.
type testLog struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.t.Log(strings.TrimSuffix(string(line), "\n"))
	}
	return len(line), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}
