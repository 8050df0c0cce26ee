// Package pool keeps connections to servers that need no session: one for each declaration, shared by all
// principals because nothing on it remembers any of them. It must not know clients. Start at [New].
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/upstream"
)

// Pool lends connections. It is safe for concurrent use.
type Pool struct {
	config Config

	mu     sync.Mutex
	links  map[string]*link
	closed bool
}

// Config is what a Pool needs.
type Config struct {
	// Open connects to a server. Called at most once at a time for each server.
	Open func(ctx context.Context, server *registryv1.CatalogServer) (upstream.Peer, error)
	// MaxCalls is how many calls may be under way at one server, so that a slow one holds no more than its
	// share of the gateway; 4096 when 0.
	MaxCalls int
}

// New makes a Pool.
func New(config Config) *Pool {
	if config.MaxCalls == 0 {
		config.MaxCalls = 4096
	}
	return &Pool{config: config, links: map[string]*link{}}
}

// link is the connection to one server under one declaration.
type link struct {
	server *registryv1.CatalogServer
	slots  chan struct{}

	mu    sync.Mutex
	peer  upstream.Peer // nil until opened
	users int
	dead  bool // replaced: close when the last user is done
}

// ErrBusy: too many calls are under way at the server. It wraps upstream.ErrNotSent.
var ErrBusy = fmt.Errorf("%w: too many calls are under way there", upstream.ErrNotSent)

// Peer lends the connection to a server, opening it when needed. done must be called once.
func (p *Pool) Peer(ctx context.Context, server *registryv1.CatalogServer) (upstream.Peer, func(), error) {
	l, err := p.link(server)
	if err != nil {
		return nil, nil, err
	}
	select {
	case l.slots <- struct{}{}:
	default:
		return nil, nil, ErrBusy
	}
	peer, err := l.use(ctx, p.config.Open)
	if err != nil {
		<-l.slots
		return nil, nil, err
	}
	return peer, func() { l.done(); <-l.slots }, nil
}

func (p *Pool) link(server *registryv1.CatalogServer) (*link, error) {
	name := server.GetServer().GetName()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, upstream.ErrClosed
	}
	l := p.links[name]
	if l == nil {
		l = &link{server: server, slots: make(chan struct{}, p.config.MaxCalls)}
		p.links[name] = l
	}
	return l, nil
}

// CatalogChanged closes the connections of servers that were removed or declared anew, once their calls are
// done. It is a callback of the catalogue's follower.
func (p *Pool) CatalogChanged(_, now *catalog.Catalog) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, l := range p.links {
		s := now.Server(name)
		if s == nil || !proto.Equal(s.GetServer(), l.server.GetServer()) || !sameWay(s.GetOffer(), l.server.GetOffer()) {
			delete(p.links, name)
			l.retire()
		}
	}
}

// sameWay reports whether two offers are called in the same way.
func sameWay(a, b *registryv1.Offer) bool {
	if len(a.GetEras()) != len(b.GetEras()) {
		return false
	}
	for i, era := range a.GetEras() {
		if era != b.GetEras()[i] {
			return false
		}
	}
	return a.GetLegacyVersion() == b.GetLegacyVersion() && a.GetSessionless() == b.GetSessionless() && a.GetHttpSse() == b.GetHttpSse()
}

// Close closes all connections and the calls on them.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for name, l := range p.links {
		delete(p.links, name)
		l.mu.Lock()
		if l.peer != nil {
			errs = append(errs, l.peer.Close())
			l.peer = nil
		}
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (l *link) use(ctx context.Context, open func(context.Context, *registryv1.CatalogServer) (upstream.Peer, error)) (upstream.Peer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer == nil {
		peer, err := open(ctx, l.server)
		if err != nil {
			return nil, err
		}
		l.peer = peer
	}
	l.users++
	return l.peer, nil
}

func (l *link) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	l.closeIfUnused()
}

func (l *link) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.closeIfUnused()
}

func (l *link) closeIfUnused() {
	if l.dead && l.users == 0 && l.peer != nil {
		_ = l.peer.Close()
		l.peer = nil
	}
}
