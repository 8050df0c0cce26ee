package redis

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
)

const (
	// replaySlots is how many calls a session's log remembers, to know one that comes again.
	replaySlots = 16
	// greatest is the last number that Lua counts exactly to.
	greatest = 1<<53 - 1
)

// Append implements [store.Events].
func (s *Store) Append(ctx context.Context, id, node string, epoch uint64, stream string, messages ...[]byte) (uint64, error) {
	if len(messages) == 0 {
		return 0, fmt.Errorf("append no message: %w", store.ErrInvalid)
	}
	return s.append(ctx, id, node, epoch, stream, "append", messages)
}

// CloseStream implements [store.Events].
func (s *Store) CloseStream(ctx context.Context, id, node string, epoch uint64, stream string) error {
	_, err := s.append(ctx, id, node, epoch, stream, "close", nil)
	return err
}

func (s *Store) append(ctx context.Context, id, node string, epoch uint64, stream, what string, messages [][]byte) (uint64, error) {
	if err := store.CheckStream(stream); err != nil {
		return 0, err
	}
	if store.CheckID(id) != nil {
		return 0, about("append to", id, store.ErrNotFound)
	}
	args := slices.Grow([]any{
		node, decimal(epoch), stream, uuid.NewString(), s.calls.Add(1) % replaySlots,
		s.limits.Events, s.limits.EventBytes, s.limits.EventAge.Milliseconds(), s.limits.TrimmedStreams, what,
	}, len(messages))
	for _, message := range messages {
		args = append(args, message)
	}
	answer, err := s.run(ctx, appendScript, s.sessionKeys(id), args...)
	if err != nil {
		return 0, about("append to", id, fmt.Errorf("stream %q: %w", stream, err))
	}
	return answer.number(1), nil
}

// Read implements [store.Events].
func (s *Store) Read(ctx context.Context, id, stream string, after uint64, limit int) (store.Page, error) {
	if err := store.CheckStream(stream); err != nil {
		return store.Page{}, err
	}
	if store.CheckID(id) != nil {
		return store.Page{}, about("read", id, store.ErrNotFound)
	}
	answer, err := s.run(ctx, readScript, s.sessionKeys(id), stream, decimal(min(after, greatest)), store.PageSize(limit))
	if err != nil {
		return store.Page{}, about("read", id, fmt.Errorf("stream %q after %d: %w", stream, after, err))
	}
	page := store.Page{Closed: answer.text(1) == "1"}
	for i := 2; i+1 < len(answer); i += 2 {
		page.Events = append(page.Events, store.Event{Seq: answer.number(i), Message: []byte(answer.text(i + 1))})
	}
	return page, nil
}
