package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is one HTTP/1.1 connection of the load client, kept open between calls. It reads into buffers of its own,
// so that a call costs the client about nothing; it knows what servers of MCP answer, and no more of HTTP.
type conn struct {
	socket net.Conn
	in     *bufio.Reader
	body   []byte
}

// maxAnswer bounds what is read of one answer.
const maxAnswer = 16 << 20

// response is an answer. Body is the JSON message, taken out of its event where it came as one; it is valid until
// the next call.
type response struct {
	status  int
	session string
	body    []byte
}

func dial(ctx context.Context, address string) (*conn, error) {
	socket, err := new(net.Dialer).DialContext(ctx, "tcp4", address)
	if err != nil {
		return nil, err
	}
	return newConn(socket), nil
}

func newConn(socket net.Conn) *conn {
	return &conn{socket: socket, in: bufio.NewReaderSize(socket, 64<<10)}
}

func (c *conn) close() { _ = c.socket.Close() }

// within bounds all that follows on the connection.
func (c *conn) within(d time.Duration) error { return c.socket.SetDeadline(time.Now().Add(d)) }

// do sends a request and reads its answer to the end. After an error the connection can't be used any more.
func (c *conn) do(request []byte) (response, error) {
	if _, err := c.socket.Write(request); err != nil {
		return response{}, err
	}
	return c.read()
}

// head is what is read of a response's header.
type head struct {
	status  int
	length  int // -1: not said
	chunked bool
	events  bool
	closes  bool
	session string
}

func (c *conn) read() (response, error) {
	h, err := c.head()
	if err != nil {
		return response{}, err
	}
	c.body = c.body[:0]
	switch {
	case h.chunked:
		err = c.chunks()
	case h.length >= 0:
		err = c.more(h.length)
	case h.status != 202 && h.status != 204:
		err = errors.New("an answer without a length")
	}
	if err != nil {
		return response{}, fmt.Errorf("body: %w", err)
	}
	if h.closes {
		return response{}, errors.New("the server closed the connection after its answer")
	}
	r := response{status: h.status, session: h.session, body: c.body}
	if h.events {
		r.body = lastData(c.body)
	}
	return r, nil
}

func (c *conn) head() (h head, err error) {
	h.length = -1
	line, err := c.line()
	if err != nil {
		return h, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return h, fmt.Errorf("not an HTTP/1.1 answer: %q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, fmt.Errorf("not an HTTP status: %q", line)
	}
	for {
		if line, err = c.line(); err != nil {
			return h, err
		}
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if h.length, err = strconv.Atoi(string(value)); err != nil || h.length < 0 {
				return h, fmt.Errorf("not a length: %q", line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Content-Type")):
			h.events = bytes.HasPrefix(value, []byte("text/event-stream"))
		case bytes.EqualFold(name, []byte("Connection")):
			h.closes = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Mcp-Session-Id")):
			h.session = string(value)
		}
	}
}

// line reads a line without its end; it is valid until the next read.
func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *conn) chunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("not a chunk's size: %q", line)
		}
		if err := c.more(int(size)); err != nil {
			return err
		}
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("after a chunk: %q", line)
		}
		if size == 0 {
			return nil
		}
	}
}

// more reads n bytes behind what the body has.
func (c *conn) more(n int) error {
	had := len(c.body)
	if had+n > maxAnswer {
		return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if had+n > cap(c.body) {
		c.body = append(make([]byte, 0, 2*(had+n)), c.body...)
	}
	c.body = c.body[:had+n]
	_, err := io.ReadFull(c.in, c.body[had:])
	return err
}

// lastData is the data of the last event that has any: the answer, which ends the stream of a request.
func lastData(events []byte) []byte {
	var data []byte
	for len(events) > 0 {
		var line []byte
		line, events, _ = bytes.Cut(events, []byte("\n"))
		if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if value = bytes.TrimSpace(value); len(value) > 0 {
				data = value
			}
		}
	}
	return data
}
