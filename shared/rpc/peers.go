package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of the connections that Peers keep.
const (
	// maxPeers is how many there are at most; beyond it the one unused for longest is closed.
	maxPeers = 1000
	// peerIdle is how long one is kept that nobody uses.
	peerIdle = 5 * time.Minute
)

// Peers keeps one connection to each of the services that are called by address, such as the owners of
// sessions. It is safe for concurrent use.
type Peers struct {
	config ClientConfig
	own    string
	local  grpc.ClientConnInterface

	mu     sync.Mutex
	conns  map[string]*peerConn // by address
	closed bool
}

// peerConn is a connection. Its fields are guarded by the Peers' mutex.
type peerConn struct {
	*grpc.ClientConn
	active int // calls that run
	used   time.Time
}

// NewPeers makes Peers. Calls to the address own go over local; own is empty where there is no such.
func NewPeers(config ClientConfig, own string, local grpc.ClientConnInterface) *Peers {
	return &Peers{config: config, own: own, local: local, conns: map[string]*peerConn{}}
}

// Conn returns the channel to an address, which may be kept: a call on it connects when there is no connection.
// Each call that is still running keeps its connection; UNAVAILABLE when there are too many of those.
func (p *Peers) Conn(address string) (grpc.ClientConnInterface, error) {
	if p.local != nil && address == p.own {
		return p.local, nil
	}
	_, release, err := p.acquire(address)
	if err != nil {
		return nil, err
	}
	release()
	return peer{p, address}, nil
}

// Close closes all connections; calls that run fail, and so do later ones.
func (p *Peers) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	clear(p.conns)
	return errors.Join(errs...)
}

// acquire returns the connection to an address, which stays open until release is called.
func (p *Peers) acquire(address string) (c *peerConn, release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, status.Error(codes.Unavailable, "the process is stopping")
	}
	c = p.conns[address]
	if c == nil {
		if !p.makeRoom(time.Now()) {
			return nil, nil, status.Errorf(codes.Unavailable, "calls to %d other processes are running; try again", maxPeers)
		}
		conn, err := dial(address, p.config, grpc.WithIdleTimeout(peerIdle))
		if err != nil {
			return nil, nil, err
		}
		c = &peerConn{ClientConn: conn}
		p.conns[address] = c
	}
	c.active++
	return c, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.active--
		c.used = time.Now()
	}), nil
}

// makeRoom closes what nobody used for long, and one more where that is needed. It is false where all are in use.
func (p *Peers) makeRoom(now time.Time) bool {
	oldest := ""
	for address, c := range p.conns {
		switch {
		case c.active > 0:
		case now.Sub(c.used) > peerIdle:
			p.drop(address)
		case oldest == "" || c.used.Before(p.conns[oldest].used):
			oldest = address
		}
	}
	if len(p.conns) >= maxPeers && oldest != "" {
		p.drop(oldest)
	}
	return len(p.conns) < maxPeers
}

func (p *Peers) drop(address string) {
	_ = p.conns[address].Close() // no call is on it
	delete(p.conns, address)
}

// peer is the channel to an address, whatever connection there is to it.
type peer struct {
	peers   *Peers
	address string
}

// Invoke implements grpc.ClientConnInterface.
func (p peer) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	c, release, err := p.peers.acquire(p.address)
	if err != nil {
		return err
	}
	defer release()
	return c.Invoke(ctx, method, req, response, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (p peer) NewStream(ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	c, release, err := p.peers.acquire(p.address)
	if err != nil {
		return nil, err
	}
	options = append(options[:len(options):len(options)], grpc.OnFinish(func(error) { release() }))
	stream, err := c.NewStream(ctx, description, method, options...)
	if err != nil {
		release()
		return nil, err
	}
	return stream, nil
}
