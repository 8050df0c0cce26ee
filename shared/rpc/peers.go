package rpc

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Peers keeps one connection to each of the services that are called by address, such as the owners of
// sessions. It is safe for concurrent use.
type Peers struct {
	config ClientConfig
	own    string
	local  grpc.ClientConnInterface

	mu     sync.Mutex
	conns  map[string]*peerConn
	closed bool
}

type peerConn struct {
	*grpc.ClientConn
	used time.Time
}

// maxPeers is how many connections are kept; beyond it those unused for longest are closed.
const maxPeers = 1000

// NewPeers makes Peers. Calls to the address own go over local; own is empty where there is no such.
func NewPeers(config ClientConfig, own string, local grpc.ClientConnInterface) *Peers {
	return &Peers{config: config, own: own, local: local, conns: map[string]*peerConn{}}
}

// Conn returns the connection to an address. It must not be closed.
func (p *Peers) Conn(address string) (grpc.ClientConnInterface, error) {
	if p.local != nil && address == p.own {
		return p.local, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("connections to other services are closed")
	}
	if c := p.conns[address]; c != nil {
		c.used = time.Now()
		return c, nil
	}
	conn, err := Dial(address, p.config)
	if err != nil {
		return nil, err
	}
	if len(p.conns) >= maxPeers {
		p.closeOldest()
	}
	c := &peerConn{conn, time.Now()}
	p.conns[address] = c
	return c, nil
}

func (p *Peers) closeOldest() {
	oldest := ""
	for address, c := range p.conns {
		if oldest == "" || c.used.Before(p.conns[oldest].used) {
			oldest = address
		}
	}
	_ = p.conns[oldest].Close()
	delete(p.conns, oldest)
}

// Close closes all connections.
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
