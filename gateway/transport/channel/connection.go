package channel

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport"
	"erlmcp.dev/shared/jsonrpc"
)

// connection is one client's connection.
type connection struct {
	server  *Server
	conn    Conn
	client  engine.Client
	options Options

	out     *queue
	ctx     context.Context // ends with the connection
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

func newConnection(ctx context.Context, s *Server, conn Conn, client engine.Client, o Options) *connection {
	c := &connection{
		server: s, conn: conn, client: client, options: o,
		oneWay:   make(chan struct{}, s.MaxRequests),
		requests: map[string]*request{},
		quiet:    make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.out = newQueue(s.MaxQueued, s.MaxQueuedBytes, func() { c.tasks.Go(c.write) })
	return c
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
func (c *connection) serve() {
	ctx := c.ctx
	defer context.AfterFunc(ctx, func() { c.end(CutOff) })() // from above, unless there was a reason before
	stop := c.watch()
	if c.options.Session != "" {
		hold := make(chan struct{})
		close(hold)
		await(ctx, c.follow(ctx, c.options.Session, hold))
	}
	finished := c.read(ctx)
	c.end(Gone)
	stop()
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

// watch ends the connection when the gateway drains, when the client is no longer welcome, or when it is dead. What it
// returns ends the watching, and is called once the connection has ended. In between it takes timers, and no goroutine.
func (c *connection) watch() (stop func()) {
	var stops []func()
	if o := c.options; o.KeepAlive != nil {
		stops = append(stops, transport.Every(o.KeepAliveEvery, func() bool {
			if o.KeepAlive(c.ctx) != nil {
				c.end(Gone)
			}
			return c.ctx.Err() == nil
		}))
	}
	if c.options.Authorized != nil {
		stops = append(stops, transport.Every(authorizeEvery, func() bool {
			if !c.options.Authorized(c.ctx) {
				c.end(Unauthorized)
			}
			return c.ctx.Err() == nil
		}))
	}
	drained := make(chan struct{})
	waiting := context.AfterFunc(c.server.Draining, func() {
		defer close(drained)
		c.drain()
	})
	return func() {
		for _, stop := range stops {
			stop()
		}
		if !waiting() {
			<-drained
		}
	}
}

// drain ends the connection once the requests under way are answered. What is said outside of them is left to the client's
// next connection first, while this one still takes requests: from there to its end none is refused but beside others.
func (c *connection) drain() {
	c.session.part()
	c.settle()
	select {
	case <-c.quiet:
		c.end(Draining)
	case <-c.ctx.Done():
	}
}

// authorizeEvery is how soon a credential that was revoked ends a connection.
const authorizeEvery = time.Minute

// write is the one writer: it sends what is queued. Once the connection has ended and the queue is empty it closes the
// connection, for its reader may wait for a client who never speaks again.
func (c *connection) write() {
	for {
		m, ok, last := c.out.take()
		if last {
			c.conn.Close(c.why())
		}
		if !ok {
			return
		}
		if m.cancelled != nil && m.cancelled.Load() {
			continue
		}
		limit := c.server.WriteTimeout + time.Duration(m.size>>16)*time.Second
		writing, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), limit)
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
			continue
		}
		c.server.Count.Sent()
	}
}

// send queues a message for the client.
func (c *connection) send(ctx context.Context, pieces ...[]byte) error {
	return c.out.put(ctx, outgoing{pieces: pieces}, len(pieces) == 1 && droppable(pieces[0]))
}
