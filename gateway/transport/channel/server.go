package channel

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport"
)

// Server serves the connections of one transport. Its fields must not change once it serves.
type Server struct {
	Engine *engine.Engine
	// Draining ends when the gateway begins to stop: connections end then, once their requests are answered.
	Draining context.Context
	// MaxRequests is how many requests of a connection are carried out at once; 100 when 0.
	MaxRequests int
	// MaxQueued and MaxQueuedBytes bound what waits to be written to a client; 1,024 messages and 8 MiB when 0.
	MaxQueued, MaxQueuedBytes int
	// WriteTimeout is how long a client may take no bytes before it counts as gone; 30 s when 0. A long message
	// gets a second more for each 64 KiB.
	WriteTimeout time.Duration
	// Count counts connections and messages. Optional.
	Count transport.Counter
	Log   *slog.Logger

	open    atomic.Int64
	mu      sync.Mutex
	closed  bool
	serving sync.WaitGroup
	start   sync.Once
	ctx     context.Context // ends what Shutdown does not wait for any longer
	cancel  context.CancelFunc
}

// MaxBatch is how many messages a batch may hold.
const MaxBatch = 100

func (s *Server) init() {
	s.start.Do(func() {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		if s.MaxRequests == 0 {
			s.MaxRequests = 100
		}
		if s.MaxQueued == 0 {
			s.MaxQueued = 1024
		}
		if s.MaxQueuedBytes == 0 {
			s.MaxQueuedBytes = 8 << 20
		}
		if s.WriteTimeout == 0 {
			s.WriteTimeout = 30 * time.Second
		}
		if s.Count == nil {
			s.Count = transport.Uncounted{}
		}
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		if s.Draining == nil {
			s.Draining = context.Background()
		}
	})
}

// Connections is how many connections are open.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Options of one connection.
type Options struct {
	// Session is the token of the legacy session that the client comes back to, checked by the transport; empty
	// for none.
	Session string
	// EndSession: the session ends with the connection.
	EndSession bool
	// Authorized is asked every minute whether the client's credential is still valid; nil where it can't end.
	Authorized func(ctx context.Context) bool
	// KeepAlive is called over and over, each time once KeepAliveEvery has gone by; an error ends the connection. Nil
	// where the transport looks after that itself.
	KeepAlive      func(ctx context.Context) error
	KeepAliveEvery time.Duration
}

// Serve serves a connection until it ends, and closes it. The client's Header must be nil.
func (s *Server) Serve(ctx context.Context, conn Conn, client engine.Client, o Options) {
	s.init()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		conn.Close(Draining)
		return
	}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	s.open.Add(1)
	defer s.open.Add(-1)
	s.Count.Connected()
	c := newConnection(ctx, s, conn, client, o)
	defer c.cancel()
	defer context.AfterFunc(s.ctx, c.cancel)()
	c.serve()
}

// Shutdown waits until all connections have ended, and cuts off those that are left when ctx ends. Draining must
// have ended before.
func (s *Server) Shutdown(ctx context.Context) {
	s.init()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	defer context.AfterFunc(ctx, s.cancel)()
	s.serving.Wait()
	s.cancel()
}
