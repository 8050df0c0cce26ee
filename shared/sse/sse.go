// Package sse writes and reads server-sent events (WHATWG HTML, server-sent events). It must not know what is in
// them. Start at [AppendEvent] and [Decoder].
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// AppendEvent appends an event of the type "message" to dst. Line breaks of any kind in data begin a new line of the
// same event, which readers join with "\n"; to JSON that makes no difference. id holds none. An empty id is left out.
// Nil data make an event that only tells its id.
func AppendEvent(dst []byte, id string, data []byte) []byte {
	return AppendNamed(dst, "", id, data)
}

// AppendNamed is AppendEvent with an event type; empty means "message".
func AppendNamed(dst []byte, name, id string, data []byte) []byte {
	if name != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, name...)
		dst = append(dst, '\n')
	}
	if id != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	if bytes.IndexByte(data, '\r') >= 0 { // ends a line too; hardly anyone sends it
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte{'\n'})
		data = bytes.ReplaceAll(data, []byte{'\r'}, []byte{'\n'})
	}
	for {
		line, rest, more := bytes.Cut(data, []byte{'\n'})
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
		if !more {
			break
		}
		data = rest
	}
	return append(dst, '\n')
}

// Event is one event that was read.
type Event struct {
	// Name is the event's type; "message" where the stream names none.
	Name string
	// ID is the last event id of the stream so far; HasID tells that this event set it.
	ID    string
	HasID bool
	// Data are the event's lines, joined; empty where it has none.
	Data []byte
	// Retry is the reconnection time that the stream asked for with this event; 0 where it asked for none.
	Retry time.Duration
}

// Decoder reads events from a stream. It is not safe for concurrent use.
type Decoder struct {
	in     *bufio.Reader
	max    int
	lastID string
	first  bool
}

// ErrTooLarge: an event exceeds the Decoder's limit.
var ErrTooLarge = errors.New("a server-sent event is too large")

// NewDecoder makes a Decoder of events of at most max bytes.
func NewDecoder(r io.Reader, max int) *Decoder {
	return &Decoder{in: bufio.NewReaderSize(r, 4096), max: max, first: true}
}

// Next reads the next event that has data, an id or a retry time: io.EOF at the stream's end, where an event
// that was not ended by an empty line is lost; ErrTooLarge; or what reading returned.
func (d *Decoder) Next() (Event, error) {
	e := Event{Name: "message"}
	some, size, hasData := false, 0, false
	for {
		line, err := d.line(d.max - size)
		if err != nil {
			return Event{}, err
		}
		size += len(line)
		if len(line) == 0 {
			if some {
				e.ID = d.lastID
				return e, nil
			}
			e, size = Event{Name: "message"}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "data":
			if hasData {
				e.Data = append(e.Data, '\n')
			}
			e.Data = append(e.Data, value...)
			some, hasData = true, true
		case "event":
			e.Name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				d.lastID, e.HasID, some = string(value), true, true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				e.Retry, some = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
}

// line reads up to a line's end, \n or \r\n; a lone \r, which no known server writes, ends none. The result is good until the next read.
func (d *Decoder) line(max int) ([]byte, error) {
	var long []byte
	for {
		chunk, err := d.in.ReadSlice('\n')
		if err == nil && len(long) == 0 { // the usual case costs no copy
			return d.trim(chunk, max)
		}
		long = append(long, chunk...)
		switch {
		case len(long) > max+2:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.max)
		case err == nil:
			return d.trim(long, max)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err // an unfinished line is no line
		}
	}
}

func (d *Decoder) trim(line []byte, max int) ([]byte, error) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if d.first {
		d.first = false
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	if len(line) > max {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.max)
	}
	return line, nil
}
