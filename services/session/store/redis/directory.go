package redis

import (
	"context"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"
)

// keepAtOnce bounds how long one script holds Redis up.
const keepAtOnce = 200

// reserve counts a session before it is created; isNew tells that it was not counted yet.
func (s *Store) reserve(ctx context.Context, record store.Record) (isNew bool, err error) {
	answer, err := s.run(ctx, reserveScript,
		[]string{s.idsKey(), s.expiryKey(), s.principalKey(record.Principal)},
		record.ID, s.limits.IdleTTL.Milliseconds(), s.limits.Sessions, s.limits.PrincipalSessions)
	if err != nil {
		return false, err
	}
	switch answer.word() {
	case "total":
		return false, &store.LimitError{Most: s.limits.Sessions}
	case "principal":
		return false, &store.LimitError{Principal: record.Principal, Most: s.limits.PrincipalSessions}
	}
	return answer.text(1) == "1", nil
}

// unreserve takes a session out of the directory. It does so even when ctx has ended, since what comes first
// is done already; what can't be taken out expires.
func (s *Store) unreserve(ctx context.Context, id, principal string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err := s.run(ctx, dropScript, []string{s.idsKey(), s.expiryKey(), s.principalKey(principal)}, id)
	return err
}

// used is a session to keep in the directory.
type used struct{ id, principal string }

// keep writes into the directory that sessions are used.
func (s *Store) keep(ctx context.Context, sessions []used) error {
	for len(sessions) > 0 {
		n := min(len(sessions), keepAtOnce)
		keys := []string{s.idsKey(), s.expiryKey()}
		args := []any{s.limits.IdleTTL.Milliseconds()}
		for _, session := range sessions[:n] {
			keys = append(keys, s.principalKey(session.principal))
			args = append(args, session.id)
		}
		if _, err := s.run(ctx, keepScript, keys, args...); err != nil {
			return err
		}
		sessions = sessions[n:]
	}
	return nil
}

// List implements [store.Sessions]. The cursor is the last id of the page before.
func (s *Store) List(ctx context.Context, cursor string, limit int) ([]store.Session, string, error) {
	limit = store.PageSize(limit)
	value, err := listScript.Run(ctx, s.client, []string{s.idsKey(), s.expiryKey()}, cursor, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list sessions: %w", err)
	}
	ids, next := texts(value), ""
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	sessions, err := s.heads(ctx, ids)
	if err != nil {
		return nil, "", fmt.Errorf("list sessions: %w", err)
	}
	return sessions, next, nil
}
