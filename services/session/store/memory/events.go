package memory

import (
	"context"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"
)

// Append implements [store.Events].
func (s *Store) Append(_ context.Context, id, node string, epoch uint64, stream string, messages ...[]byte) (uint64, error) {
	if err := store.CheckStream(stream); err != nil {
		return 0, err
	}
	if len(messages) == 0 {
		return 0, fmt.Errorf("append no message: %w", store.ErrInvalid)
	}
	now := s.lock()
	defer s.mu.Unlock()
	found, err := s.fenced(id, node, epoch)
	if err != nil {
		return 0, err
	}
	if found.events.streams[stream].closed {
		return 0, fmt.Errorf("session %s, stream %s: %w", id, stream, store.ErrClosed)
	}
	first := found.events.last + 1
	for _, message := range messages {
		found.events.add(entry{stream: stream, message: message, at: now})
	}
	found.events.trim(s.limits, now)
	return first, nil
}

// CloseStream implements [store.Events].
func (s *Store) CloseStream(_ context.Context, id, node string, epoch uint64, stream string) error {
	if err := store.CheckStream(stream); err != nil {
		return err
	}
	now := s.lock()
	defer s.mu.Unlock()
	found, err := s.fenced(id, node, epoch)
	if err != nil {
		return err
	}
	if !found.events.streams[stream].closed {
		found.events.add(entry{stream: stream, closes: true, at: now})
		found.events.trim(s.limits, now)
	}
	return nil
}

// Read implements [store.Events].
func (s *Store) Read(_ context.Context, id, stream string, after uint64, limit int) (store.Page, error) {
	if err := store.CheckStream(stream); err != nil {
		return store.Page{}, err
	}
	s.lock()
	defer s.mu.Unlock()
	found, ok := s.sessions[id]
	if !ok {
		return store.Page{}, fmt.Errorf("session %s: %w", id, store.ErrNotFound)
	}
	if found.events.missed(stream, after) {
		return store.Page{}, fmt.Errorf("session %s, stream %s after %d: %w", id, stream, after, store.ErrGone)
	}
	return found.events.read(stream, after, store.PageSize(limit)), nil
}

func millis(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()) }
