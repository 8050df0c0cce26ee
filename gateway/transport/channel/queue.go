package channel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// queue holds messages for a client until they are written. It is bounded by messages and bytes: beyond the bounds
// notifications that can be missed are dropped, and whoever sends something else waits.
type queue struct {
	maxMessages, maxBytes int

	mu       sync.Mutex
	messages []outgoing
	bytes    int
	closed   bool
	changed  chan struct{} // closed and replaced when something changes
}

// outgoing is one message in pieces.
type outgoing struct {
	pieces [][]byte
	size   int
	// cancelled says that the request which the message belongs to was cancelled: nothing more is sent for it.
	cancelled *atomic.Bool
}

var errClosed = errors.New("the connection ended")

func newQueue(maxMessages, maxBytes int) *queue {
	return &queue{maxMessages: maxMessages, maxBytes: maxBytes, changed: make(chan struct{})}
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// put appends a message, if need be once there is room. A droppable one that finds no room is dropped. It fails
// when ctx or the connection ends first.
func (q *queue) put(ctx context.Context, m outgoing, droppable bool) error {
	for _, p := range m.pieces {
		m.size += len(p)
	}
	for {
		q.mu.Lock()
		switch full := len(q.messages) >= q.maxMessages || len(q.messages) > 0 && q.bytes+m.size > q.maxBytes; {
		case q.closed:
			q.mu.Unlock()
			return errClosed
		case !full:
			q.messages = append(q.messages, m)
			q.bytes += m.size
			q.signal()
			q.mu.Unlock()
			return nil
		case droppable:
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take waits for a message and removes it. ok is false once the queue is closed and empty.
func (q *queue) take() (m outgoing, ok bool) {
	for {
		q.mu.Lock()
		if len(q.messages) > 0 {
			m = q.messages[0]
			q.messages[0] = outgoing{}
			q.messages = q.messages[1:]
			q.bytes -= m.size
			q.signal()
			q.mu.Unlock()
			return m, true
		}
		closed, changed := q.closed, q.changed
		q.mu.Unlock()
		if closed {
			return outgoing{}, false
		}
		<-changed
	}
}

// close ends the queue: what is in it can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.signal()
	}
}

// discard ends the queue and empties it: nobody will write any more.
func (q *queue) discard() {
	q.close()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages, q.bytes = nil, 0
}

// droppable reports whether a message can be missed: progress and logs.
func droppable(message []byte) bool {
	method, ok := jsonrpc.GetString(message, "method")
	return ok && (method == mcp.MethodProgress || method == mcp.MethodMessage) && jsonrpc.Get(message, "id") == nil
}
