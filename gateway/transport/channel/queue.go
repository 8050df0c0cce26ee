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
// notifications that can be missed are dropped, and whoever sends something else waits. It has one writer at a time, and
// none while there is nothing to write: most connections are quiet, and a goroutine costs more than they do.
type queue struct {
	maxMessages, maxBytes int
	write                 func() // starts a writer, which takes until there is nothing left

	mu       sync.Mutex
	writing  bool
	messages []outgoing
	bytes    int
	closed   bool
	room     chan struct{} // not nil while someone waits for room; closed and forgotten when something changes
}

// outgoing is one message in pieces.
type outgoing struct {
	pieces [][]byte
	size   int
	// cancelled says that the request which the message belongs to was cancelled: nothing more is sent for it.
	cancelled *atomic.Bool
}

var errClosed = errors.New("the connection ended")

func newQueue(maxMessages, maxBytes int, write func()) *queue {
	return &queue{maxMessages: maxMessages, maxBytes: maxBytes, write: write}
}

// begin starts a writer if there is none; mu is held.
func (q *queue) begin() {
	if !q.writing {
		q.writing = true
		q.write()
	}
}

// signal wakes those who wait for room; mu is held.
func (q *queue) signal() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
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
			q.begin()
			q.mu.Unlock()
			return nil
		case droppable:
			q.mu.Unlock()
			return nil
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take removes a message for the writer. ok is false where there is none: the writer ends then, for good where last.
func (q *queue) take() (m outgoing, ok, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.messages) == 0 {
		q.messages = nil
		q.writing = q.closed // nobody writes behind the last writer
		return outgoing{}, false, q.closed
	}
	m = q.messages[0]
	q.messages[0] = outgoing{}
	q.messages = q.messages[1:]
	q.bytes -= m.size
	q.signal()
	return m, true, false
}

// close ends the queue: what is in it is still written.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.signal()
		q.begin()
	}
}

// discard ends the queue and empties it, on behalf of its writer: nobody will write any more.
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
