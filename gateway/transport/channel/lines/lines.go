// Package lines frames messages as lines: one JSON-RPC message each, ended by a newline, as MCP has it for standard
// streams and asks of transports over streams of bytes. It must not know where the bytes come from. Start at
// [Reader] and [Append].
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"erlmcp.dev/gateway/transport/channel"
)

// Reader reads lines of at most max bytes. It is for one goroutine.
type Reader struct {
	in  *bufio.Reader
	max int
}

// NewReader makes a Reader. It holds little memory while no line comes.
func NewReader(from io.Reader, max int) *Reader {
	return &Reader{in: bufio.NewReaderSize(from, 4096), max: max}
}

// Limit changes how long a line may be, from the next one on.
func (r *Reader) Limit(max int) { r.max = max }

// Next returns the next line that is not empty, without its end and in memory of its own. A line that is too long
// is skipped and gives channel.ErrTooLong. A last line without an end counts as one; behind it comes io.EOF.
func (r *Reader) Next() ([]byte, error) {
	for {
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

func (r *Reader) line() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		chunk, err := r.in.ReadSlice('\n')
		if !tooLong {
			line = append(line, chunk...)
			if len(line)-1 > r.max { // the newline is not counted
				line, tooLong = nil, true
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case tooLong:
			return nil, channel.ErrTooLong
		case err != nil && len(line) == 0:
			return nil, io.EOF
		default:
			return bytes.TrimSuffix(line, []byte{'\n'}), nil
		}
	}
}

// Append appends a message, given in pieces, to dst as one line. JSON may hold newlines between its tokens, but
// never within them: each becomes a space.
func Append(dst []byte, pieces [][]byte) []byte {
	for _, p := range pieces {
		start := len(dst)
		dst = append(dst, p...)
		for added := dst[start:]; ; {
			i := bytes.IndexAny(added, "\r\n")
			if i < 0 {
				break
			}
			added[i] = ' '
			added = added[i+1:]
		}
	}
	return append(dst, '\n')
}
