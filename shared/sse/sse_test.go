package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/shared/sse"
)

func all(r io.Reader, max int) (events []sse.Event, err error) {
	d := sse.NewDecoder(r, max)
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

func TestDecoderReadsWhatServersWrite(t *testing.T) {
	in := "\xef\xbb\xbf: comment\n\nid: 1\ndata:\n\nevent: endpoint\r\ndata: /messages?x=1\r\n\r\nretry: 1500\n\n" +
		"data: {\"a\":\ndata:  1}\nid: 2\n\ndata: no id of its own\n\nunknown: x\n\ndata: cut off"
	want := []sse.Event{
		{Name: "message", ID: "1", HasID: true},
		{Name: "endpoint", ID: "1", Data: []byte("/messages?x=1")},
		{Name: "message", ID: "1", Retry: 1500 * time.Millisecond},
		{Name: "message", ID: "2", HasID: true, Data: []byte("{\"a\":\n 1}")},
		{Name: "message", ID: "2", Data: []byte("no id of its own")},
	}
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
		got, err := all(r, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDecoderBoundsAnEvent(t *testing.T) {
	for name, in := range map[string]string{
		"one line":      "data: " + strings.Repeat("x", 100_000) + "\n\n",
		"many lines":    strings.Repeat("data: x\n", 10_000) + "\n",
		"comments":      strings.Repeat(": x\n", 10_000),
		"no line's end": strings.Repeat("x", 100_000),
	} {
		if _, err := all(strings.NewReader(in), 5000); !errors.Is(err, sse.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := strings.Repeat("x", 90_000)
	got, err := all(strings.NewReader("data: "+big+"\n\n"), 100_000)
	if err != nil || len(got) != 1 || string(got[0].Data) != big {
		t.Errorf("an event within the limit: %v", err)
	}
}

// fields reads a stream as the standard says: lines end with CR LF, LF or CR, and each begins with its field.
func fields(stream []byte) []string {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(stream))
	return strings.Split(text, "\n")
}

// FuzzAppendEvent: whatever a server sent as data becomes data of one event, and never another field or event.
func FuzzAppendEvent(f *testing.F) {
	f.Add("7", []byte("{\"a\":\n1,\r\"b\":\r\n2}"))
	f.Add("", []byte("x\r\rid: 9\r\nevent: endpoint\n\ndata: injected"))
	f.Add("0:1", []byte(nil))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		if strings.ContainsAny(id, "\r\n") {
			return
		}
		lines := fields(sse.AppendEvent(nil, id, data))
		if id != "" {
			if lines[0] != "id: "+id {
				t.Fatalf("begins with %q", lines[0])
			}
			lines = lines[1:]
		}
		end := len(lines) - 2 // an empty line, and what is behind its end
		if end < 1 || lines[end] != "" || lines[end+1] != "" {
			t.Fatalf("ends with %q", lines)
		}
		for i, line := range lines[:end] {
			value, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				t.Fatalf("has the line %q", line)
			}
			lines[i] = value
		}
		if want := fields(data); strings.Join(lines[:end], "\n") != strings.Join(want, "\n") {
			t.Errorf("data %q became %q", data, lines[:end])
		}
	})
}

// FuzzDecoder: whatever is read ends, within bounds; and what AppendEvent writes is read back.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("id: 1\ndata: x\n\n"), "7", []byte(`{"a":1}`))
	f.Add([]byte("\r\n\rdata"), "", []byte("a\nb"))
	f.Fuzz(func(t *testing.T, in []byte, id string, data []byte) {
		_, _ = all(bytes.NewReader(in), 1000)
		if strings.ContainsAny(id, "\r\n\x00") || bytes.ContainsAny(data, "\r") || strings.HasPrefix(id, " ") {
			return
		}
		got, err := all(bytes.NewReader(sse.AppendEvent(nil, id, data)), len(id)+2*len(data)+10*bytes.Count(data, []byte{'\n'})+100)
		if err != nil || len(got) != 1 || got[0].ID != id || !bytes.Equal(got[0].Data, data) {
			t.Errorf("wrote %q %q, read %+v, %v", id, data, got, err)
		}
	})
}
