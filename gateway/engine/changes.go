package engine

import (
	"sync"

	"erlmcp.dev/shared/catalog"
)

// changes tells those who listen which lists of their view changed.
type changes struct {
	mu        sync.Mutex
	listeners map[*changeListener]struct{}
}

type changeListener struct {
	view   string
	signal chan struct{} // holds one signal; what changed is in pending

	mu      sync.Mutex
	pending catalog.Changes
}

func (c *changes) listen(view string) *changeListener {
	l := &changeListener{view: view, signal: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners == nil {
		c.listeners = map[*changeListener]struct{}{}
	}
	c.listeners[l] = struct{}{}
	return l
}

func (c *changes) leave(l *changeListener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.listeners, l)
}

// take returns what changed since the last call.
func (l *changeListener) take() catalog.Changes {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending
	l.pending = catalog.Changes{}
	return p
}

func (l *changeListener) add(changed catalog.Changes) {
	l.mu.Lock()
	for i, c := range changed {
		l.pending[i] = l.pending[i] || c
	}
	l.mu.Unlock()
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// CatalogChanged tells the clients that listen which lists of theirs changed. It is the catalogue follower's
// callback.
func (e *Engine) CatalogChanged(before, now *catalog.Catalog) {
	e.changes.mu.Lock()
	defer e.changes.mu.Unlock()
	known := map[string]catalog.Changes{}
	for l := range e.changes.listeners {
		changed, ok := known[l.view]
		if !ok {
			changed = catalog.Compare(before, now, l.view)
			known[l.view] = changed
		}
		if changed != (catalog.Changes{}) {
			l.add(changed)
		}
	}
}
