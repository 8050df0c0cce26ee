package memory

import (
	"context"
	"fmt"
	"maps"

	"erlmcp.dev/services/session/store"
)

// Create implements [store.Sessions].
func (s *Store) Create(_ context.Context, node string, record store.Record) error {
	if err := store.CheckNode(node); err != nil {
		return err
	}
	if err := s.limits.CheckRecord(record); err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	now := s.lock()
	defer s.mu.Unlock()
	if _, ok := s.sessions[record.ID]; ok {
		return fmt.Errorf("create session %s: %w", record.ID, store.ErrExists)
	}
	if len(s.sessions) >= s.limits.Sessions {
		return &store.LimitError{Most: s.limits.Sessions}
	}
	if s.principals[record.Principal] >= s.limits.PrincipalSessions {
		return &store.LimitError{Principal: record.Principal, Most: s.limits.PrincipalSessions}
	}
	record.CreatedAt, record.UsedAt = now, now
	record.State = maps.Clone(record.State)
	made := &session{record: record, node: node, epoch: 1}
	made.place = s.idle.PushBack(made)
	s.sessions[record.ID] = made
	s.ids.insert(record.ID)
	s.principals[record.Principal]++
	return nil
}

// Get implements [store.Sessions].
func (s *Store) Get(_ context.Context, id string) (store.Session, error) {
	s.lock()
	defer s.mu.Unlock()
	found, ok := s.sessions[id]
	if !ok {
		return store.Session{}, fmt.Errorf("session %s: %w", id, store.ErrNotFound)
	}
	got := s.view(found)
	got.State = maps.Clone(found.record.State)
	return got, nil
}

// view is a session without its state, its times in milliseconds as Redis has them.
func (s *Store) view(of *session) store.Session {
	record := of.record
	record.State = nil
	record.CreatedAt, record.UsedAt = millis(record.CreatedAt), millis(record.UsedAt)
	return store.Session{Record: record, Owner: s.owner(of)}
}

// List implements [store.Sessions]. The cursor is the last id of the page before.
func (s *Store) List(_ context.Context, cursor string, limit int) ([]store.Session, string, error) {
	s.lock()
	defer s.mu.Unlock()
	limit = store.PageSize(limit)
	page := make([]store.Session, 0, min(limit, len(s.sessions)))
	for id := range s.ids.after(cursor) {
		if len(page) == limit {
			return page, page[limit-1].ID, nil
		}
		page = append(page, s.view(s.sessions[id]))
	}
	return page, "", nil
}

// Save implements [store.Sessions].
func (s *Store) Save(_ context.Context, id, node string, epoch uint64, changes store.Changes) error {
	if err := s.limits.CheckState(changes.Set); err != nil {
		return fmt.Errorf("save session %s: %w", id, err)
	}
	s.lock()
	defer s.mu.Unlock()
	found, err := s.fenced(id, node, epoch)
	if err != nil {
		return err
	}
	state := maps.Clone(found.record.State)
	if state == nil {
		state = make(map[string][]byte, len(changes.Set))
	}
	for _, name := range changes.Remove {
		delete(state, name)
	}
	maps.Copy(state, changes.Set)
	if err := s.limits.CheckState(state); err != nil {
		return fmt.Errorf("save session %s: %w", id, err)
	}
	found.record.State = state
	return nil
}

// Touch implements [store.Sessions].
func (s *Store) Touch(_ context.Context, node string, holds []store.Hold) (lost []string, err error) {
	now := s.lock()
	defer s.mu.Unlock()
	for _, hold := range holds {
		held, err := s.fenced(hold.ID, node, hold.Epoch)
		if err != nil {
			lost = append(lost, hold.ID)
			continue
		}
		s.use(held, now)
	}
	return lost, nil
}

// Claim implements [store.Sessions].
func (s *Store) Claim(_ context.Context, id, node string, seen uint64) (uint64, error) {
	if err := store.CheckNode(node); err != nil {
		return 0, err
	}
	now := s.lock()
	defer s.mu.Unlock()
	found, ok := s.sessions[id]
	if !ok {
		return 0, fmt.Errorf("claim session %s: %w", id, store.ErrNotFound)
	}
	owner := s.owner(found)
	if owner.Epoch != seen || owner.Holds() && owner.Node != node {
		return 0, fmt.Errorf("claim session %s: %w", id, &store.OwnedError{Owner: owner})
	}
	found.node, found.released = node, false
	found.epoch++
	s.use(found, now)
	return found.epoch, nil
}

// Release implements [store.Sessions].
func (s *Store) Release(_ context.Context, id, node string, epoch uint64) error {
	s.lock()
	defer s.mu.Unlock()
	found, ok := s.sessions[id]
	switch {
	case !ok:
		return fmt.Errorf("release session %s: %w", id, store.ErrNotFound)
	case found.node != node || found.epoch != epoch:
		return fmt.Errorf("release session %s at epoch %d: %w", id, epoch, store.ErrFenced)
	}
	found.released = true
	return nil
}

// Delete implements [store.Sessions].
func (s *Store) Delete(_ context.Context, id, node string, epoch uint64) error {
	s.lock()
	defer s.mu.Unlock()
	found, err := s.fenced(id, node, epoch)
	if err != nil {
		return err
	}
	s.drop(found)
	return nil
}
