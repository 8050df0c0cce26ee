package mcpio

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"erlmcp.dev/shared/upstream"
)

// FuzzReadLine: lines are what stands between line ends, however the bytes arrive, and none is beyond the limit.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\n\rx"), 10)
	f.Add([]byte(strings.Repeat("x", 100)), 50)
	f.Add([]byte(strings.Repeat("x", 99)+"\n"), 100)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		limit = max(1, limit%1000)
		in := bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(data)), 16)
		for rest := data; ; {
			line, err := readLine(in, limit)
			want, after, whole := bytes.Cut(rest, []byte{'\n'})
			switch {
			case len(want)+1 > limit && whole || len(want) > limit:
				if !errors.Is(err, upstream.ErrTooLarge) {
					t.Fatalf("a line of %d within %d: %v", len(want), limit, err)
				}
				return
			case !whole:
				if err == nil {
					t.Fatalf("%q has no end", line)
				}
				return
			case err != nil || !bytes.Equal(line, bytes.TrimSuffix(want, []byte{'\r'})):
				t.Fatalf("%q, %v, want %q", line, err, want)
			}
			rest = after
		}
	})
}
