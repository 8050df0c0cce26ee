package channel

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/shared/jsonrpc"
)

// connection is one client's connection.
type connection struct {
	server  *Server
	conn    Conn
	client  engine.Client
	options Options

	out     *queue
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	oneWay  chan struct{} // a place for each notification or response that is being handed on
	session session

	mu       sync.Mutex
	ended    bool
	reason   Reason
	requests map[string]*request // under way, by raw id
	quiet    chan struct{}       // closed once settling and no request is under way
	settling bool                // no more requests are taken
}

func newConnection(s *Server, conn Conn, client engine.Client, o Options) *connection {
	return &connection{
		server: s, conn: conn, client: client, options: o,
		out:      newQueue(s.MaxQueued, s.MaxQueuedBytes),
		oneWay:   make(chan struct{}, s.MaxRequests),
		requests: map[string]*request{},
		quiet:    make(chan struct{}),
	}
}

// end ends the connection; the first reason counts. What is queued is still written.
func (c *connection) end(why Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended, c.reason = true, why
	}
	c.cancel()
	c.out.close()
}

func (c *connection) why() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// serve reads until the connection ends. Then everything that belongs to it is ended and waited for.
func (c *connection) serve(ctx context.Context, cancel context.CancelFunc) {
	c.cancel = cancel
	defer context.AfterFunc(ctx, func() { c.end(CutOff) })() // from above, unless there was a reason before
	c.tasks.Go(func() { c.write(ctx) })
	c.tasks.Go(func() { c.watch(ctx) })
	if c.options.Session != "" {
		hold := make(chan struct{})
		close(hold)
		await(ctx, c.follow(ctx, c.options.Session, hold))
	}
	finished := c.read(ctx)
	c.end(Gone)
	c.tasks.Wait()
	if token := c.session.end(); token != "" && (finished || c.options.EndSession) {
		c.closeSession(token)
	}
}

// settleTime is how long requests may go on after the client said that it sends nothing more.
const settleTime = 5 * time.Second

// read takes messages in until the connection ends, and reports whether the client has finished for good.
func (c *connection) read(ctx context.Context) (finished bool) {
	for {
		message, err := c.conn.Read()
		switch {
		case err == nil:
			c.server.Count.Received()
			c.take(ctx, message)
		case ctx.Err() != nil:
			return false
		case errors.Is(err, ErrTooLong):
			c.answer(ctx, nil, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the message is longer than this connection takes"))
			if _, skips := c.conn.(Skips); !skips {
				c.end(TooLong)
				return false
			}
		case errors.Is(err, ErrNotText):
			c.end(NotText)
			return false
		case errors.Is(err, ErrFinished):
			return true
		case errors.Is(err, io.EOF):
			c.settle()
			c.cancelListens()
			select {
			case <-c.quiet:
			case <-time.After(settleTime):
			case <-ctx.Done():
			}
			return false
		default:
			return false
		}
	}
}

// settle takes no more requests, and closes quiet once those under way are answered.
func (c *connection) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settling {
		c.settling = true
		if len(c.requests) == 0 {
			close(c.quiet)
		}
	}
}

// watch ends the connection when the gateway drains, when the client is no longer welcome, or when it is dead.
func (c *connection) watch(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	if c.options.KeepAlive != nil {
		watching.Go(func() {
			for ctx.Err() == nil {
				if err := c.options.KeepAlive(ctx); err != nil {
					c.end(Gone)
				}
			}
		})
	}
	if c.options.Authorized != nil {
		watching.Go(func() { c.reauthorize(ctx) })
	}
	select {
	case <-c.server.Draining.Done():
	case <-ctx.Done():
		return
	}
	c.settle()
	select {
	case <-c.quiet:
		c.end(Draining)
	case <-ctx.Done():
	}
}

// authorizeEvery is how soon a credential that was revoked ends a connection.
const authorizeEvery = time.Minute

func (c *connection) reauthorize(ctx context.Context) {
	tick := time.NewTicker(authorizeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !c.options.Authorized(ctx) {
				c.end(Unauthorized)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// write is the one writer: it sends what is queued until the connection ends and the queue is empty, and closes
// the connection, for its reader may wait for a client who never speaks again.
func (c *connection) write(ctx context.Context) {
	defer func() { c.conn.Close(c.why()) }()
	for {
		m, ok := c.out.take()
		if !ok {
			return
		}
		if m.cancelled != nil && m.cancelled.Load() {
			continue
		}
		limit := c.server.WriteTimeout + time.Duration(m.size>>16)*time.Second
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		err := c.conn.Write(writing, m.pieces)
		late := writing.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)
		cancel()
		if err != nil {
			if late {
				c.end(TooSlow)
			} else {
				c.end(Gone)
			}
			c.out.discard()
			return
		}
		c.server.Count.Sent()
	}
}

// send queues a message for the client.
func (c *connection) send(ctx context.Context, pieces ...[]byte) error {
	return c.out.put(ctx, outgoing{pieces: pieces}, len(pieces) == 1 && droppable(pieces[0]))
}
