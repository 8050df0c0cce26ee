// Package memory keeps the live state of sessions in this process, for `erlmcp up` and for tests. Everything
// ends with the process. It starts no goroutine: what ran out is swept at the next use of the store, and a
// node's Beat is such a use. Start at [New].
package memory

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"erlmcp.dev/services/session/store"
)

// Store implements [store.Store].
type Store struct {
	limits store.Limits

	mu       sync.Mutex
	leases   map[string]*lease
	sessions map[string]*session
	// idle has all sessions, the one longest unused first: they all live equally long, so it is in the order
	// of their ends.
	idle *list.List
	// ids has the sessions' ids in order, for pages.
	ids ordered
	// principals counts sessions; those with none are absent.
	principals map[string]int
	results    results
	tasks      tasks
}

var _ store.Store = (*Store)(nil)

// New makes an empty store.
func New(limits store.Limits) *Store {
	return &Store{
		limits:     limits.WithDefaults(),
		leases:     make(map[string]*lease),
		sessions:   make(map[string]*session),
		idle:       list.New(),
		principals: make(map[string]int),
		results:    results{byKey: make(map[store.ResultKey]*result), of: make(map[string]int)},
		tasks:      newTasks(),
	}
}

type session struct {
	record   store.Record
	node     string
	epoch    uint64
	released bool
	place    *list.Element // in idle
	events   eventLog
}

// Ready is always so.
func (s *Store) Ready(context.Context) error { return nil }

// lock takes the lock and drops what ran out until now. Time is cut to milliseconds, as Redis has it.
func (s *Store) lock() (now time.Time) {
	s.mu.Lock()
	now = time.Now()
	for front := s.idle.Front(); front != nil; front = s.idle.Front() {
		oldest := front.Value.(*session)
		if now.Sub(oldest.record.UsedAt) < s.limits.IdleTTL {
			break
		}
		s.drop(oldest)
	}
	s.results.sweep(now)
	s.tasks.sweep(now)
	for name, l := range s.leases { // a cluster in one process has one node
		if !now.Before(l.until) {
			delete(s.leases, name)
		}
	}
	return now
}

// drop forgets a session. The caller holds the lock.
func (s *Store) drop(gone *session) {
	s.idle.Remove(gone.place)
	delete(s.sessions, gone.record.ID)
	s.ids.remove(gone.record.ID)
	principal := gone.record.Principal
	if s.principals[principal]--; s.principals[principal] == 0 {
		delete(s.principals, principal)
	}
}

// use starts a session's idle time anew. The caller holds the lock.
func (s *Store) use(used *session, now time.Time) {
	used.record.UsedAt = now
	s.idle.MoveToBack(used.place)
}

// fenced is the session if node holds it at epoch. The caller holds the lock.
func (s *Store) fenced(id, node string, epoch uint64) (*session, error) {
	found, ok := s.sessions[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("session %s: %w", id, store.ErrNotFound)
	case found.node != node || found.epoch != epoch || found.released:
		return nil, fmt.Errorf("session %s at epoch %d: %w", id, epoch, store.ErrFenced)
	}
	return found, nil
}

// owner is a session's owner now. The caller holds the lock.
func (s *Store) owner(of *session) store.Owner {
	return s.present(store.Owner{Node: of.node, Epoch: of.epoch, Released: of.released})
}

// present fills in what the node's lease says of an owner. The caller holds the lock.
func (s *Store) present(owner store.Owner) store.Owner {
	if l, ok := s.leases[owner.Node]; ok {
		owner.Address, owner.Alive, owner.Lease = l.node.Address, true, l.id
	}
	return owner
}
