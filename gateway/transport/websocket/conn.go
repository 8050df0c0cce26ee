package websocket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"erlmcp.dev/gateway/transport/channel"
)

// conn is a WebSocket as a channel.Conn.
type conn struct {
	ws      *websocket.Conn
	writing atomic.Bool
	buffer  []byte
	closed  sync.Once
}

var _ channel.Conn = (*conn)(nil)

// Read implements channel.Conn.
func (c *conn) Read() ([]byte, error) {
	kind, message, err := c.ws.Read(context.Background()) // ends with Close
	switch {
	case err == nil && kind == websocket.MessageText:
		return message, nil
	case err == nil:
		return nil, channel.ErrNotText
	case errors.Is(err, websocket.ErrMessageTooBig):
		return nil, channel.ErrTooLong
	}
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusNoStatusRcvd:
		return nil, channel.ErrFinished
	}
	return nil, err
}

// keptBuffer is the largest buffer that is kept for the next message.
const keptBuffer = 64 << 10

// Write implements channel.Conn: a message is one frame.
func (c *conn) Write(ctx context.Context, pieces [][]byte) error {
	c.writing.Store(true)
	defer c.writing.Store(false)
	if len(pieces) == 1 {
		return c.ws.Write(ctx, websocket.MessageText, pieces[0])
	}
	c.buffer = c.buffer[:0]
	for _, p := range pieces {
		c.buffer = append(c.buffer, p...)
	}
	err := c.ws.Write(ctx, websocket.MessageText, c.buffer)
	if cap(c.buffer) > keptBuffer {
		c.buffer = nil
	}
	return err
}

// Close implements channel.Conn.
func (c *conn) Close(why channel.Reason) {
	c.closed.Do(func() {
		if err := c.ws.Close(code(why), why.String()); err != nil {
			_ = c.ws.CloseNow() // it broke before
		}
	})
}

// code is the close code of a reason (RFC 6455, section 7.4).
func code(why channel.Reason) websocket.StatusCode {
	switch why {
	case channel.Gone:
		return websocket.StatusNormalClosure
	case channel.Draining:
		return websocket.StatusGoingAway
	case channel.NotText:
		return websocket.StatusUnsupportedData
	case channel.Unauthorized, channel.TooSlow, channel.Displaced:
		return websocket.StatusPolicyViolation
	case channel.TooLong:
		return websocket.StatusMessageTooBig
	}
	return websocket.StatusInternalError
}

// pongTime is how long a client may take to say that it is there.
const pongTime = 30 * time.Second

// keepAlive asks the client whether it is there. While something is being written there is no need: the writer has a
// limit of its own.
func (c *conn) keepAlive(ctx context.Context) error {
	if c.writing.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pongTime)
	defer cancel()
	return c.ws.Ping(ctx)
}
