// Package pool keeps connections to servers that need no session: one for each declaration, shared by all
// principals because nothing on it remembers any of them. It must not know clients. Start at [New].
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/upstream"
)

// Pool lends connections. It is safe for concurrent use.
type Pool struct {
	config Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	opens  sync.WaitGroup

	mu      sync.Mutex         // never held while waiting for a server
	links   map[string]*link   // by the server's name
	retired map[*link]struct{} // replaced, and used by calls that began before
	catalog *catalog.Catalog   // the newest, once told
	closed  bool
}

// Config is what a Pool needs.
type Config struct {
	// Open connects to a server. Called at most once at a time for each declaration, with a context that no
	// caller's end ends: others wait for the same connection.
	Open func(ctx context.Context, server *registryv1.CatalogServer) (upstream.Peer, error)
	// MaxCalls is how many calls may be under way at one server, so that a slow one holds no more than its
	// share of the gateway; 4096 when 0.
	MaxCalls int
}

// openTime is how long opening a connection may take.
const openTime = 30 * time.Second

// New makes a Pool.
func New(config Config) *Pool {
	if config.MaxCalls == 0 {
		config.MaxCalls = 4096
	}
	p := &Pool{config: config, links: map[string]*link{}, retired: map[*link]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// link is the connection to one server under one declaration. The Pool's lock guards it.
type link struct {
	server  *registryv1.CatalogServer
	peer    upstream.Peer // nil until opened
	opening *opening      // nil while nobody opens
	users   int
}

// opening is an attempt to connect, for all who wait for it.
type opening struct {
	done chan struct{}
	err  error // set once done is closed
}

// ErrBusy: too many calls are under way at the server. It wraps upstream.ErrNotSent.
var ErrBusy = fmt.Errorf("%w: too many calls are under way there", upstream.ErrNotSent)

var errClosed = fmt.Errorf("%w: %w", upstream.ErrNotSent, upstream.ErrClosed)

// Peer lends the connection to a server, opening it when needed. done must be called once. Its errors wrap
// upstream.ErrNotSent or upstream.ErrRefused: nothing was sent.
func (p *Pool) Peer(ctx context.Context, server *registryv1.CatalogServer) (peer upstream.Peer, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	l, replaced := p.link(server)
	if l.users >= p.config.MaxCalls {
		return nil, nil, ErrBusy
	}
	l.users++
	if replaced != nil {
		p.drop(replaced)
	}
	for l.peer == nil {
		if err := p.open(ctx, l); err != nil {
			l.users--
			p.drop(l)
			return nil, nil, err
		}
	}
	return l.peer, func() { p.done(l) }, nil
}

// link finds or makes the link for a declaration, and says which one it replaced. A caller that still goes by an
// older declaration than the others gets a link that ends with its calls.
func (p *Pool) link(server *registryv1.CatalogServer) (l, replaced *link) {
	name := server.GetServer().GetName()
	l = p.links[name]
	if l != nil && same(l.server, server) {
		l.server = server // the next comparison is of pointers
		return l, nil
	}
	fresh := &link{server: server}
	if p.catalog == nil || same(p.catalog.Server(name), server) {
		if l != nil {
			p.retired[l] = struct{}{}
		}
		p.links[name] = fresh
		return fresh, l
	}
	for l := range p.retired {
		if l.server.GetServer().GetName() == name && same(l.server, server) {
			return l, nil
		}
	}
	p.retired[fresh] = struct{}{}
	return fresh, nil
}

// open waits for a link's connection, or for the end of ctx. The lock is released meanwhile. Where it returns nil
// the link is to be looked at again.
func (p *Pool) open(ctx context.Context, l *link) error {
	if p.closed {
		return errClosed
	}
	o := l.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		l.opening = o
		server := l.server
		ctx := context.WithoutCancel(ctx)
		p.opens.Go(func() { p.connect(ctx, server, l, o) })
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("%w: the connection is still being opened: %w", upstream.ErrNotSent, context.Cause(ctx))
	}
}

// connect opens a link's connection.
func (p *Pool) connect(ctx context.Context, server *registryv1.CatalogServer, l *link, o *opening) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	peer, err := p.config.Open(ctx, server)
	p.mu.Lock()
	defer p.mu.Unlock()
	l.opening = nil
	switch {
	case err == nil:
		l.peer = peer
	case errors.Is(err, upstream.ErrNotSent), errors.Is(err, upstream.ErrRefused):
		o.err = err
	default:
		o.err = fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
	}
	close(o.done)
	p.drop(l)
}

func (p *Pool) done(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.users--
	p.drop(l)
}

// drop closes a link that was replaced, or whose pool was closed, once nobody uses it. The lock is released
// meanwhile, so it stands last.
func (p *Pool) drop(l *link) {
	_, retired := p.retired[l]
	if !retired && !p.closed || l.users > 0 && !p.closed || l.opening != nil {
		return
	}
	delete(p.retired, l)
	if peer := l.peer; peer != nil {
		l.peer = nil
		p.mu.Unlock()
		defer p.mu.Lock()
		_ = peer.Close()
	}
}

// CatalogChanged closes the connections of servers that were removed or declared anew, once their calls are
// done. It is a callback of the catalogue's follower.
func (p *Pool) CatalogChanged(_, now *catalog.Catalog) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catalog = now
	var replaced []*link
	for name, l := range p.links {
		if !same(now.Server(name), l.server) {
			delete(p.links, name)
			p.retired[l] = struct{}{}
			replaced = append(replaced, l)
		}
	}
	for _, l := range replaced {
		p.drop(l)
	}
}

// same reports whether two declarations are of one server that is called in the same way.
func same(a, b *registryv1.CatalogServer) bool {
	return a == b || a != nil && b != nil && proto.Equal(a.GetServer(), b.GetServer()) && sameWay(a.GetOffer(), b.GetOffer())
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
	p.closed = true
	all := p.links
	p.links = map[string]*link{}
	var peers []upstream.Peer
	for l := range p.retired {
		peers = append(peers, l.peer)
		l.peer = nil
	}
	for _, l := range all {
		peers = append(peers, l.peer)
		l.peer = nil
	}
	p.mu.Unlock()
	p.cancel()
	p.opens.Wait() // what opens all the same is closed there
	var errs []error
	for _, peer := range peers {
		if peer != nil {
			errs = append(errs, peer.Close())
		}
	}
	return errors.Join(errs...)
}
