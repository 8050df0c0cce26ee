package owner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// guests are the conversations with servers on behalf of modern clients, who have no session: one for each principal,
// server and set of client capabilities. Nothing of them is shared between principals, but for servers whose calls
// hang together by nothing.
type guests struct {
	owner *Owner

	mu      sync.Mutex
	ends    map[guestKey]*guest
	of      map[pair]int        // how many of ends
	waiting map[string]*relayed // calls that wait for a client's input, by id
	closed  bool
	tasks   sync.WaitGroup
}

type guestKey struct {
	principal, server, capabilities string
}

type pair struct{ principal, server string }

// guest is one such conversation.
type guest struct {
	guests *guests
	key    guestKey
	slot   *slot
	// maxCalls is how many calls may be under way.
	maxCalls int

	mu    sync.Mutex
	calls map[*relayed]struct{}
	subs  map[string]map[chan<- string]struct{} // who hears of a resource's updates
	used  time.Time
	kept  time.Time // until then the server has tasks of its own

	watches *watches      // of a modern server; nil for none
	logging chan struct{} // a place for the one who reads or changes logs
	logs    upstream.Peer // was told to log everything
}

// Limits of guests.
const (
	maxGuests       = 10_000 // conversations of one owner
	maxGuestKinds   = 32     // of one principal with one server, by what its clients can do
	maxGuestCalls   = 1000   // under way on one conversation
	maxSharedCalls  = 50_000 // under way on one that all principals share
	maxWaiting      = 10_000 // calls of one owner that wait for input
	guestIdleTime   = 5 * time.Minute
	unsubscribeTime = 5 * time.Second
	maxInputRounds  = 16
)

func newGuests(o *Owner) *guests {
	return &guests{owner: o, ends: map[guestKey]*guest{}, of: map[pair]int{}, waiting: map[string]*relayed{}}
}

var errTooMany = jsonrpc.Errorf(jsonrpc.CodeInternal, "too many conversations with servers are open; try again later")

// guest returns the conversation for a principal's modern requests to a server.
func (g *guests) guest(principal, server string, capabilities, info json.RawMessage) (*guest, *jsonrpc.Error) {
	digest := sha256.Sum256(capabilities)
	key, maxCalls := guestKey{principal, server, hex.EncodeToString(digest[:8])}, maxGuestCalls
	if stateless(g.owner.config.Catalog.Current().Server(server)) {
		key, maxCalls = guestKey{server: server}, maxSharedCalls
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.ends[key]; e != nil {
		e.mu.Lock()
		e.used = time.Now() // so that nobody ends it before the call begins
		e.mu.Unlock()
		return e, nil
	}
	if g.closed || len(g.ends) >= maxGuests || !g.room(key) {
		return nil, errTooMany
	}
	e := &guest{
		guests: g, key: key, maxCalls: maxCalls, calls: map[*relayed]struct{}{}, subs: map[string]map[chan<- string]struct{}{},
		logging: make(chan struct{}, 1), used: time.Now(),
	}
	e.slot = &slot{open: func(ctx context.Context) (End, error) {
		s := g.owner.config.Catalog.Current().Server(server)
		if s == nil {
			return End{}, errors.New("the server was removed")
		}
		end, err := g.owner.config.Opener.Open(ctx, s, EndClient{
			Principal: principal, Version: mcp.LegacyVersions[0], Capabilities: capabilities, Info: info, Listener: guestListener{e},
		})
		if err == nil && !end.Modern {
			e.subscribe(ctx, end)
		}
		return end, err
	}}
	g.ends[key] = e
	g.of[pair{principal, server}]++
	return e, nil
}

// logEverything has a legacy server log for all calls of the conversation, whose level is one: each call passes on
// what it asked for.
func (e *guest) logEverything(ctx context.Context, end End) {
	select {
	case e.logging <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-e.logging }()
	if e.logs != end.Peer {
		e.logs = end.Peer
		_, _ = end.Call(ctx, upstream.Request{Method: mcp.MethodSetLevel, Params: levelParams(mcp.LogLevels[0])}, nil)
	}
}

// room reports whether a principal may have one more conversation with a server, and ends the one that was unused
// longest where it has too many: whoever declares other capabilities with each request must not take the place
// of others. mu is held.
func (g *guests) room(key guestKey) bool {
	of := pair{key.principal, key.server}
	if g.of[of] < maxGuestKinds {
		return true
	}
	var oldest *guest
	var since time.Time
	for other, e := range g.ends {
		if other.principal != key.principal || other.server != key.server {
			continue
		}
		e.mu.Lock()
		if len(e.calls) == 0 && len(e.subs) == 0 && time.Now().After(e.kept) && (oldest == nil || e.used.Before(since)) {
			oldest, since = e, e.used
		}
		e.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	g.remove(oldest)
	g.tasks.Go(oldest.slot.close)
	return true
}

// remove takes a conversation out; mu is held.
func (g *guests) remove(e *guest) {
	delete(g.ends, e.key)
	of := pair{e.key.principal, e.key.server}
	if g.of[of]--; g.of[of] <= 0 {
		delete(g.of, of)
	}
}

// lookAfter ends conversations that nobody used for a while, and forgets calls that ended while they waited for
// input that never came.
func (g *guests) lookAfter() {
	g.mu.Lock()
	for id, r := range g.waiting {
		r.mu.Lock()
		over := !r.done.IsZero() && time.Since(r.done) > g.owner.config.InputWait
		r.mu.Unlock()
		if over {
			delete(g.waiting, id)
		}
	}
	var idle []*guest
	for _, e := range g.ends {
		e.mu.Lock()
		unused := len(e.calls) == 0 && len(e.subs) == 0 && time.Since(e.used) > guestIdleTime && time.Now().After(e.kept)
		e.mu.Unlock()
		if unused {
			idle = append(idle, e)
			g.remove(e)
		}
	}
	g.mu.Unlock()
	for _, e := range idle {
		e.slot.close()
	}
}

// forget ends the conversations with a server.
func (g *guests) forget(server string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, e := range g.ends {
		if key.server == server && !g.closed {
			g.remove(e)
			g.tasks.Go(e.slot.close)
		}
	}
}

// drain waits until no call is under way but those that wait for input, or ctx ends.
func (g *guests) drain(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for g.busy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// busy reports whether calls are under way that wait for no input.
func (g *guests) busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := -len(g.waiting)
	for _, e := range g.ends {
		e.mu.Lock()
		n += len(e.calls)
		e.mu.Unlock()
	}
	return n > 0
}

// close ends all conversations and waits for their calls.
func (g *guests) close() {
	g.mu.Lock()
	g.closed = true
	ends := g.ends
	g.ends, g.of = map[guestKey]*guest{}, map[pair]int{}
	g.waiting = map[string]*relayed{}
	g.mu.Unlock()
	for _, e := range ends {
		e.mu.Lock()
		for r := range e.calls {
			r.cancel(ErrStopped)
		}
		e.mu.Unlock()
	}
	for _, e := range ends {
		e.slot.close()
	}
	g.tasks.Wait()
}

// guestListener hears what a server sends outside any call of a guest.
type guestListener struct{ guest *guest }

// only is the one call under way, or nil: what a server sends without naming a call can belong to no other.
func (l guestListener) only() *relayed {
	l.guest.mu.Lock()
	defer l.guest.mu.Unlock()
	if len(l.guest.calls) != 1 {
		return nil
	}
	for r := range l.guest.calls {
		return r
	}
	return nil
}

// Notification implements upstream.Listener.
func (l guestListener) Notification(method string, params json.RawMessage) {
	switch method {
	case mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged:
		l.guest.guests.owner.listChanged(l.guest.key.server)
	case mcp.MethodResourceUpdated:
		uri, _ := jsonrpc.GetString(params, "uri")
		l.guest.updated(uri, uri)
	default:
		if r := l.only(); r != nil {
			r.Notification(method, params)
		}
	}
}

// Request implements upstream.Listener.
func (l guestListener) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	if method == mcp.MethodPing {
		return json.RawMessage("{}"), nil
	}
	if r := l.only(); r != nil {
		return r.Request(ctx, method, params)
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no client can be asked outside a call; Method not found: %s", method)
}
