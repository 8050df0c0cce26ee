package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/redisx"
)

// touchAtOnce bounds one round trip of touches.
const touchAtOnce = 500

// Create implements [store.Sessions].
func (s *Store) Create(ctx context.Context, node string, record store.Record) error {
	if err := store.CheckNode(node); err != nil {
		return err
	}
	if err := s.limits.CheckRecord(record); err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	isNew, err := s.reserve(ctx, record)
	if err != nil {
		return about("create", record.ID, err)
	}
	args := append([]any{uuid.NewString(), s.limits.IdleTTL.Milliseconds()}, recordFields(node, record)...)
	_, err = s.run(ctx, createScript, s.sessionKeys(record.ID), args...)
	if err == nil {
		return nil
	}
	// After any other error the session may have been made: the reservation stays until it expires.
	if isNew && errors.Is(err, store.ErrExists) {
		_ = s.unreserve(ctx, record.ID, record.Principal)
	}
	return about("create", record.ID, err)
}

// Get implements [store.Sessions].
func (s *Store) Get(ctx context.Context, id string) (store.Session, error) {
	if store.CheckID(id) != nil {
		return store.Session{}, about("get", id, store.ErrNotFound)
	}
	fields, err := s.client.HGetAll(ctx, s.recordKey(id)).Result()
	if err != nil {
		return store.Session{}, about("get", id, err)
	}
	if len(fields) == 0 {
		return store.Session{}, about("get", id, store.ErrNotFound)
	}
	found := session(id, fields)
	if found.Owner, err = s.owned(ctx, found.Owner); err != nil {
		return store.Session{}, about("get", id, err)
	}
	return found, nil
}

// Save implements [store.Sessions].
func (s *Store) Save(ctx context.Context, id, node string, epoch uint64, changes store.Changes) error {
	if err := s.limits.CheckState(changes.Set); err != nil {
		return about("save", id, err)
	}
	if store.CheckID(id) != nil {
		return about("save", id, store.ErrNotFound)
	}
	removed := make(map[string]bool, len(changes.Remove))
	args := []any{node, decimal(epoch), s.limits.StateValues, s.limits.StateBytes, 0}
	for _, name := range changes.Remove {
		if _, set := changes.Set[name]; !set && !removed[name] {
			removed[name] = true
			args = append(args, name)
		}
	}
	args[4] = len(removed)
	for name, value := range changes.Set {
		args = append(args, name, value)
	}
	answer, err := s.run(ctx, saveScript, []string{s.recordKey(id)}, args...)
	if err == nil && answer.word() == "toolarge" {
		err = s.limits.StateTooLarge(int(answer.number(1)), int(answer.number(2)))
	}
	if err != nil {
		return about("save", id, err)
	}
	return nil
}

// Touch implements [store.Sessions].
func (s *Store) Touch(ctx context.Context, node string, holds []store.Hold) (lost []string, err error) {
	for len(holds) > 0 {
		n := min(len(holds), touchAtOnce)
		gone, failed := s.touch(ctx, node, holds[:n])
		lost = append(lost, gone...)
		err = errors.Join(err, failed)
		holds = holds[n:]
		if ctx.Err() != nil {
			break
		}
	}
	return lost, err
}

func (s *Store) touch(ctx context.Context, node string, holds []store.Hold) (lost []string, err error) {
	calls := make([]redisx.Call, 0, len(holds))
	ids := make([]string, 0, len(holds))
	for _, hold := range holds {
		if store.CheckID(hold.ID) != nil {
			lost = append(lost, hold.ID)
			continue
		}
		ids = append(ids, hold.ID)
		calls = append(calls, redisx.Call{
			Keys: s.sessionKeys(hold.ID),
			Args: []any{node, decimal(hold.Epoch), s.limits.IdleTTL.Milliseconds()},
		})
	}
	touched := make([]used, 0, len(calls))
	var first error
	for i, result := range touchScript.RunAll(ctx, s.client, calls) {
		answer, err := asReply(result.Value, result.Err)
		switch {
		case err != nil:
			if first == nil {
				first = about("touch", ids[i], err)
			}
		case refusal(answer) != nil:
			lost = append(lost, ids[i])
		default:
			touched = append(touched, used{id: ids[i], principal: answer.text(1)})
		}
	}
	// The records come first, so that a session that was deleted is not put back into the directory.
	if err := s.keep(ctx, touched); err != nil && first == nil {
		first = fmt.Errorf("touch sessions: %w", err)
	}
	return lost, first
}

// Claim implements [store.Sessions]. See lua/claim.lua for why reading the lease first is enough.
func (s *Store) Claim(ctx context.Context, id, node string, seen uint64) (uint64, error) {
	if err := store.CheckNode(node); err != nil {
		return 0, err
	}
	found, err := s.Get(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("claim: %w", err)
	}
	if owner := found.Owner; owner.Epoch != seen || owner.Holds() && owner.Node != node {
		return 0, about("claim", id, &store.OwnedError{Owner: owner})
	}
	answer, err := s.run(ctx, claimScript, s.sessionKeys(id),
		node, decimal(seen), uuid.NewString(), s.limits.IdleTTL.Milliseconds())
	if err != nil {
		return 0, about("claim", id, err)
	}
	if answer.word() == "moved" {
		if found, err = s.Get(ctx, id); err != nil {
			return 0, fmt.Errorf("claim: %w", err)
		}
		return 0, about("claim", id, &store.OwnedError{Owner: found.Owner})
	}
	// The session is claimed whether the directory hears of it now or at the next touch.
	_ = s.keep(ctx, []used{{id: id, principal: answer.text(2)}})
	return answer.number(1), nil
}

// Release implements [store.Sessions].
func (s *Store) Release(ctx context.Context, id, node string, epoch uint64) error {
	if store.CheckID(id) != nil {
		return about("release", id, store.ErrNotFound)
	}
	if _, err := s.run(ctx, releaseScript, []string{s.recordKey(id)}, node, decimal(epoch)); err != nil {
		return about("release", id, err)
	}
	return nil
}

// Delete implements [store.Sessions].
func (s *Store) Delete(ctx context.Context, id, node string, epoch uint64) error {
	if store.CheckID(id) != nil {
		return about("delete", id, store.ErrNotFound)
	}
	answer, err := s.run(ctx, deleteScript, s.sessionKeys(id), node, decimal(epoch))
	if err != nil {
		return about("delete", id, err)
	}
	// The session has ended; a count that can't be taken back now ends by itself.
	_ = s.unreserve(ctx, id, answer.text(1))
	return nil
}
