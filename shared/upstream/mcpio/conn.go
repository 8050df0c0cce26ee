// Package mcpio speaks MCP with a server over a stream of bytes, one JSON-RPC message a line: a program's
// standard streams, or a TCP connection. It must not know where the stream comes from. Start at [New].
package mcpio

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mux"
)

// Conn is an upstream.Peer of either era.
type Conn struct {
	stream  io.ReadWriteCloser
	mux     *mux.Mux
	out     chan []byte
	ended   chan struct{} // closed once the stream ended
	max     int
	running sync.WaitGroup
	close   sync.Once
}

var _ upstream.Peer = (*Conn)(nil)

// Config is what a Conn needs.
type Config struct {
	// Listener hears what the server sends outside any call. Optional.
	Listener upstream.Listener
	// MaxLine is the longest line that is read, in bytes; upstream.MaxMessage when 0. A longer one ends the
	// conversation: what it was an answer to can't be known.
	MaxLine int
}

// maxQueue is how many messages wait to be written. A server that does not read gets no more calls.
const maxQueue = 256

// New makes a Conn that owns the stream. Closing the stream must end a Read and a Write under way.
func New(stream io.ReadWriteCloser, config Config) *Conn {
	if config.MaxLine == 0 {
		config.MaxLine = upstream.MaxMessage
	}
	c := &Conn{stream: stream, out: make(chan []byte, maxQueue), ended: make(chan struct{}), max: config.MaxLine}
	c.mux = mux.New(config.Listener, c.send)
	c.running.Go(c.read)
	c.running.Go(c.write)
	return c
}

// Done is closed once the conversation ended.
func (c *Conn) Done() <-chan struct{} { return c.ended }

func (c *Conn) read() {
	defer close(c.ended)
	in := bufio.NewReaderSize(c.stream, 64<<10)
	for {
		line, err := readLine(in, c.max)
		if err != nil {
			if errors.Is(err, upstream.ErrTooLarge) {
				c.mux.Fail(err)
			} else {
				c.mux.Fail(fmt.Errorf("%w: the connection ended", upstream.ErrLost))
			}
			return
		}
		if len(line) > 0 {
			_ = c.mux.Deliver(line, nil) // programs print things that are no messages; they are passed over
		}
	}
}

// readLine returns a line without its end, in memory of its own.
func readLine(in *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		chunk, err := in.ReadSlice('\n')
		line = append(line, chunk...)
		if len(line) > max {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", upstream.ErrTooLarge, max)
		}
		switch {
		case err == nil:
			line = line[:len(line)-1]
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func (c *Conn) write() {
	for {
		select {
		case message := <-c.out:
			if _, err := c.stream.Write(asLine(message)); err != nil {
				// The reader may wait for room in the queue, or for a stream that is closed in one direction.
				c.mux.Fail(fmt.Errorf("%w: it takes no more messages: %w", upstream.ErrLost, err))
				_ = c.stream.Close()
				return
			}
		case <-c.ended:
			return
		}
	}
}

// asLine makes a line of a message, in its own memory. JSON has raw line breaks between its tokens only, where a
// space means the same; clients may write them.
func asLine(message []byte) []byte {
	for i, c := range message {
		if c == '\n' || c == '\r' {
			message[i] = ' '
		}
	}
	return append(message, '\n')
}

// send queues a message. Its errors say that nothing was sent: upstream.ErrNotSent when the queue stays full
// until ctx ends or the Conn was closed, upstream.ErrSessionGone when the conversation ended.
func (c *Conn) send(ctx context.Context, message []byte) error {
	if err := c.mux.Over(); err != nil { // the queue may have room all the same
		return err
	}
	select {
	case c.out <- message:
		return nil
	case <-c.ended:
		return c.mux.Over()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) { // that is the caller's doing
			return fmt.Errorf("%w: %w", upstream.ErrNotSent, context.Canceled)
		}
		return fmt.Errorf("%w: it does not read what is sent", upstream.ErrNotSent)
	}
}

// Call implements upstream.Peer. Notifications of a subscriptions/listen carry the subscription id of this
// conversation, not the caller's. A modern server's log messages reach the call that asked for them while it is the
// only one that did, else the standing Listener; so does all else that names no call, the server's requests too.
func (c *Conn) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	call, err := c.mux.Begin(ctx, req, from)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer call.End()
	if err := c.send(ctx, call.Message); err != nil {
		return upstream.Reply{}, err
	}
	select {
	case <-call.Done:
		return call.Reply()
	case <-ctx.Done():
		select {
		case c.out <- call.Cancelled("the caller gave up"):
		default: // a server that reads nothing would not hear it
		}
		return upstream.Reply{}, context.Cause(ctx)
	}
}

// Notify implements upstream.Peer.
func (c *Conn) Notify(ctx context.Context, method string, params json.RawMessage) error {
	return c.send(ctx, jsonrpc.Request(nil, method, params))
}

// Initialize opens a legacy conversation (specification 2025-11-25, lifecycle). It returns the InitializeResult;
// a server's refusal is upstream.ErrRefused.
func (c *Conn) Initialize(ctx context.Context, version string, capabilities, info json.RawMessage) (json.RawMessage, error) {
	reply, err := c.Call(ctx, upstream.Request{Method: mcp.MethodInitialize, Params: mcp.InitializeParams(version, capabilities, info)}, nil)
	if err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("%w: initialize: %w", upstream.ErrRefused, jsonrpc.ParseError(reply.Error))
	}
	if negotiated, _ := jsonrpc.GetString(reply.Result, "protocolVersion"); !mcp.IsLegacy(negotiated) {
		return nil, fmt.Errorf("%w: it speaks revision %q, which is not known here", upstream.ErrRefused, negotiated)
	}
	return reply.Result, c.Notify(ctx, mcp.MethodInitialized, nil)
}

// Close implements upstream.Peer.
func (c *Conn) Close() error {
	var err error
	c.close.Do(func() {
		c.mux.Fail(upstream.ErrClosed)
		err = c.stream.Close()
		c.running.Wait()
		c.mux.Wait()
	})
	return err
}
