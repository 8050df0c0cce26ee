package lines

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/gateway/transport/channel"
)

// all reads everything; a line that was too long is "!".
func all(t *testing.T, r io.Reader, max int) []string {
	t.Helper()
	in := NewReader(r, max)
	var got []string
	for {
		line, err := in.Next()
		switch {
		case err == nil:
			got = append(got, string(line))
		case errors.Is(err, channel.ErrTooLong):
			got = append(got, "!")
		case errors.Is(err, io.EOF):
			return got
		default:
			t.Fatal(err)
		}
	}
}

func TestReaderSplitsLines(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n\r\n  \n", nil},
		{"a\nb\n", []string{"a", "b"}},
		{"a\r\n\nb", []string{"a\r", "b"}},
		{"12345678\n123456789\n1\n", []string{"12345678", "!", "1"}},
		{long + "\n1\n" + long, []string{"!", "1", "!"}},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(c.in), "by bytes": iotest.OneByteReader(strings.NewReader(c.in))} {
			if diff := cmp.Diff(c.want, all(t, r, 8)); diff != "" {
				t.Errorf("%.20q %s (-want +got):\n%s", c.in, name, diff)
			}
		}
	}
}

func TestReaderPassesErrorsOn(t *testing.T) {
	if _, err := NewReader(iotest.ErrReader(io.ErrClosedPipe), 8).Next(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestAppendKeepsAMessageOnOneLine(t *testing.T) {
	got := Append([]byte("before"), [][]byte{[]byte("{\n  \"a\": \"\\n\","), []byte("\r\n\"b\": 1\n}")})
	if want := "before{   \"a\": \"\\n\",  \"b\": 1 }\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// However bytes arrive, lines are what stands between newlines.
func FuzzReader(f *testing.F) {
	f.Add([]byte("{}\n{}\r\n\n x"), uint8(3))
	f.Add(bytes.Repeat([]byte("abcdefgh"), 520), uint8(255))
	f.Fuzz(func(t *testing.T, data []byte, max uint8) {
		var want []string
		for i, line := range strings.Split(string(data), "\n") {
			last := i == strings.Count(string(data), "\n")
			switch limit := int(max); {
			case last && len(line) == limit+1: // nothing tells that no newline is still to come
				return
			case len(line) > limit:
				want = append(want, "!")
			case strings.TrimSpace(line) != "":
				want = append(want, line)
			}
		}
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.HalfReader(bytes.NewReader(data))} {
			if got := all(t, r, int(max)); !slices.Equal(want, got) {
				t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got))
			}
		}
	})
}
