// Package stdio is the transport of standard streams: one client, which started this process, writes a JSON-RPC
// message a line and reads one a line. [Serve] serves it here (package channel); [Bridge] passes its messages to an
// erlmcp that runs elsewhere.
package stdio

import (
	"context"
	"io"
	"sync"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/channel/lines"
)

// Serve serves a client on two streams until the first ends or ctx does. The client's session ends with it. A read
// that is under way when ctx ends is left behind: standard input can't be interrupted.
func Serve(ctx context.Context, server *channel.Server, client engine.Client, in io.Reader, out io.Writer, maxLine int) {
	c := &conn{out: out, lines: make(chan line), ended: make(chan struct{})}
	go c.read(lines.NewReader(in, maxLine))
	server.Serve(ctx, c, client, channel.Options{EndSession: true})
}

// conn is a pair of streams as a channel.Conn.
type conn struct {
	out    io.Writer
	lines  chan line
	ended  chan struct{} // closed by Close
	closed sync.Once
	buffer []byte
}

var (
	_ channel.Conn  = (*conn)(nil)
	_ channel.Skips = (*conn)(nil)
)

type line struct {
	message []byte
	err     error
}

// read reads lines until the stream ends, or one comes after Close.
func (c *conn) read(in *lines.Reader) {
	for {
		message, err := in.Next()
		select {
		case c.lines <- line{message, err}:
		case <-c.ended:
			return
		}
		if err != nil && err != channel.ErrTooLong { //nolint:errorlint // as Next returns it
			return
		}
	}
}

// Skips implements channel.Skips.
func (c *conn) Skips() {}

// Read implements channel.Conn.
func (c *conn) Read() ([]byte, error) {
	select {
	case l := <-c.lines:
		return l.message, l.err
	case <-c.ended:
		return nil, io.ErrClosedPipe
	}
}

// Write implements channel.Conn. A write that the client does not take is left behind when ctx ends; nothing is
// written after it.
func (c *conn) Write(ctx context.Context, pieces [][]byte) error {
	c.buffer = lines.Append(c.buffer[:0], pieces)
	written := make(chan error, 1)
	go func() {
		_, err := c.out.Write(c.buffer)
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements channel.Conn. The streams are the process's, and stay open.
func (c *conn) Close(channel.Reason) {
	c.closed.Do(func() { close(c.ended) })
}
