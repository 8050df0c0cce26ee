package owner

import (
	"google.golang.org/protobuf/proto"

	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
)

// maxTelling is how many sessions are told at once what changed: each is a write to the store.
const maxTelling = 32

// CatalogChanged tells sessions which of their lists changed, and ends conversations with servers that were
// removed or declared anew. It is the catalogue follower's callback, and waits for nobody.
func (o *Owner) CatalogChanged(before, now *catalog.Catalog) {
	var gone []string
	for _, name := range before.Servers() {
		is := now.Server(name)
		if is == nil || !proto.Equal(is.GetServer(), before.Server(name).GetServer()) {
			gone = append(gone, name)
		}
	}
	changed := map[string]catalog.Changes{} // by view
	for _, s := range o.all() {
		view := s.record.View
		lists, ok := changed[view]
		if !ok {
			lists = catalog.Compare(before, now, view)
			changed[view] = lists
		}
		if s.client.Load().Version != "" {
			s.listsChanged(lists)
		}
		for _, name := range gone {
			s.forget(name)
		}
	}
	for _, name := range gone {
		o.guests.forget(name)
	}
}

// listsChanged has the client told which lists changed.
func (s *session) listsChanged(lists catalog.Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, is := range lists {
		s.changed[i] = s.changed[i] || is
	}
	if s.closed || s.telling || s.changed == (catalog.Changes{}) {
		return
	}
	s.telling = true
	s.tasks.Go(s.tellChanged)
}

func (s *session) tellChanged() {
	select {
	case s.owner.telling <- struct{}{}:
		defer func() { <-s.owner.telling }()
	case <-s.ctx.Done():
		return
	}
	for {
		s.mu.Lock()
		changed := s.changed
		s.changed = catalog.Changes{}
		s.telling = changed != catalog.Changes{} && !s.closed
		over := !s.telling
		s.mu.Unlock()
		if over {
			return
		}
		for i, is := range changed {
			if is {
				standingEmitter{s}.emit(jsonrpc.Request(nil, catalog.ChangeMethods[i], nil), true)
			}
		}
	}
}

// forget ends the session's conversation with a server. Should it come back, it is told of the subscriptions.
func (s *session) forget(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[server]
	if sl == nil || s.closed {
		return
	}
	delete(s.slots, server)
	s.tasks.Go(sl.close)
	var uris []string
	for uri, r := range s.subs {
		if r.server == server {
			uris = append(uris, uri)
		}
	}
	if len(uris) > 0 {
		s.tasks.Go(func() { s.takeUpAt(server, uris) })
	}
}
