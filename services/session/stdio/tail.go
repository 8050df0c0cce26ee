package stdio

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// tail keeps the end of what is written to it.
type tail struct {
	secrets []string // longest first

	mu  sync.Mutex
	end []byte
}

const (
	// maxTail is how many bytes of standard error are kept.
	maxTail = 8 << 10
	// maxLines is how many lines are told, maxLine how long each may be, in bytes.
	maxLines = 10
	maxLine  = 500
	// minSecret is how long a variable's value is at least that is hidden: shorter ones, such as "on" and "1", are no
	// secrets, and are all over what programs write.
	minSecret = 4
	hidden    = "[hidden]"
)

// newTail hides the values of a program's own variables.
func newTail(env map[string]string) *tail {
	t := &tail{}
	for _, value := range env {
		if value = strings.TrimSpace(value); len(value) >= minSecret {
			t.secrets = append(t.secrets, value)
		}
	}
	slices.SortFunc(t.secrets, func(a, b string) int { return len(b) - len(a) })
	return t
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	b = b[max(0, n-maxTail):]
	t.end = append(t.end, b...)
	if over := len(t.end) - maxTail; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return n, nil
}

// String is the last lines, fit to be shown.
func (t *tail) String() string {
	t.mu.Lock()
	text := string(t.end)
	cut := len(t.end) == maxTail
	t.mu.Unlock()
	if cut { // the first line is a part of one, and may be a part of a secret
		_, text, _ = strings.Cut(text, "\n")
	}
	for _, secret := range t.secrets {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-maxLines):]
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// printable makes a line what a terminal shows as it is.
func printable(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, line)
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "..."
	}
	return line
}
