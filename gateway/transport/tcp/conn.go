package tcp

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"time"

	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/channel/lines"
	"erlmcp.dev/shared/jsonrpc"
)

// conn is a TCP connection as a channel.Conn.
type conn struct {
	net      net.Conn
	in       *lines.Reader
	pace     *pace
	again    []byte // the first message, which was read already
	buffer   []byte
	closed   sync.Once
	patience time.Duration
}

var (
	_ channel.Conn  = (*conn)(nil)
	_ channel.Skips = (*conn)(nil)
)

func newConn(c net.Conn, patience time.Duration) *conn {
	p := &pace{conn: c, patience: patience}
	return &conn{net: c, in: lines.NewReader(p, maxFirst), pace: p, patience: patience}
}

// Skips implements channel.Skips.
func (c *conn) Skips() {}

// maxFirst is how long the first message may be, in bytes: nobody knows yet whose it is.
const maxFirst = 256 << 10

// firstLine reads the first message, which must come soon, and whole. The next ones may be as long as max.
func (c *conn) firstLine(max int) ([]byte, error) {
	c.in.Limit(min(max, maxFirst))
	c.pace.within, c.pace.until = true, time.Now().Add(c.patience)
	line, err := c.in.Next()
	c.pace.until = time.Time{}
	c.in.Limit(max)
	return line, err
}

// Read implements channel.Conn.
func (c *conn) Read() ([]byte, error) {
	line := c.again
	if line == nil {
		var err error
		if line, err = c.in.Next(); err != nil {
			return nil, err
		}
	}
	c.again = nil
	return withoutOwn(line), nil
}

// keptBuffer is the largest buffer that is kept for the next message.
const keptBuffer = 64 << 10

// Write implements channel.Conn.
func (c *conn) Write(ctx context.Context, pieces [][]byte) error {
	deadline, _ := ctx.Deadline()
	if err := c.net.SetWriteDeadline(deadline); err != nil {
		return err
	}
	c.buffer = lines.Append(c.buffer[:0], pieces)
	_, err := c.net.Write(c.buffer)
	if cap(c.buffer) > keptBuffer {
		c.buffer = nil
	}
	return err
}

// Close implements channel.Conn. TCP has no way to say why.
func (c *conn) Close(channel.Reason) {
	c.closed.Do(func() { _ = c.net.Close() })
}

// lingerTime is how long a refused client may take to read why.
const lingerTime = 500 * time.Millisecond

// refuse answers the first message with an error and closes the connection. What the client sent besides is read
// and dropped first, for closing with bytes unread would take the answer back.
func (c *conn) refuse(id json.RawMessage, message string) {
	defer c.Close(channel.Unauthorized)
	if id == nil {
		id = json.RawMessage("null")
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	answer := jsonrpc.ErrorResponse(id, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", message).JSON())
	if c.Write(ctx, [][]byte{answer}) != nil {
		return
	}
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.net.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.net, 1<<20)
}

// pace reads from a connection: without limit while the client says nothing, and with little patience within a
// message, so that nobody makes us hold half-sent ones for long.
type pace struct {
	conn     net.Conn
	patience time.Duration
	within   bool
	until    time.Time // beyond which nothing is read; never when zero
}

// Read implements io.Reader.
func (p *pace) Read(b []byte) (int, error) {
	var deadline time.Time
	if p.within {
		deadline = time.Now().Add(p.patience)
	}
	if !p.until.IsZero() && (!p.within || p.until.Before(deadline)) {
		deadline = p.until
	}
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(b)
	if n > 0 {
		// The reader comes back for more only where these bytes hold no line's end, or for the next line.
		p.within = b[n-1] != '\n'
	}
	return n, err
}
