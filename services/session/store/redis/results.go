package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"erlmcp.dev/services/session/store"
)

// resultKeys are those of a result and of all results of its principal, and its name among those. They are digests:
// clients choose what keys are made of.
func (s *Store) resultKeys(key store.ResultKey) (keys []string, name string) {
	principal, result := sha256.Sum256([]byte(key.Principal)), sha256.Sum256([]byte(key.Key))
	slot := s.prefix + "{result:" + hex.EncodeToString(principal[:16]) + "}"
	name = hex.EncodeToString(result[:16])
	return []string{slot + ":" + name, slot}, name
}

// Reserve implements [store.Results].
func (s *Store) Reserve(ctx context.Context, key store.ResultKey, digest, holder string, repeatable bool) (store.Result, error) {
	if err := key.Check(); err != nil {
		return store.Result{}, err
	}
	keys, name := s.resultKeys(key)
	again := "0"
	if repeatable {
		again = "1"
	}
	answer, err := s.run(ctx, reserveResultScript, keys, digest, holder,
		s.limits.ResultLease.Milliseconds(), s.limits.ResultTTL.Milliseconds(), s.limits.PrincipalResults, name, again)
	if err != nil {
		return store.Result{}, fmt.Errorf("reserve a result: %w", err)
	}
	switch word := answer.word(); word {
	case "other":
		return store.Result{}, store.ErrOtherCall
	case "full":
		return store.Result{}, fmt.Errorf("%d results of principal %q: %w", s.limits.PrincipalResults, key.Principal, store.ErrLimit)
	case string(store.Answered):
		return store.Result{State: store.Answered, Answer: []byte(answer.text(1))}, nil
	default:
		return store.Result{State: store.ResultState(word)}, nil
	}
}

// Renew implements [store.Results].
func (s *Store) Renew(ctx context.Context, key store.ResultKey, holder string) error {
	return s.settle(ctx, "renew", key, holder, nil)
}

// Settle implements [store.Results].
func (s *Store) Settle(ctx context.Context, key store.ResultKey, holder string, answer []byte) error {
	if len(answer) > s.limits.ResultBytes {
		return fmt.Errorf("a result of %d bytes: %w", len(answer), store.ErrTooLarge)
	}
	if answer == nil {
		return s.settle(ctx, "free", key, holder, nil)
	}
	return s.settle(ctx, "keep", key, holder, answer)
}

func (s *Store) settle(ctx context.Context, what string, key store.ResultKey, holder string, answer []byte) error {
	keys, name := s.resultKeys(key)
	_, err := s.run(ctx, settleResultScript, keys, what, holder, s.limits.ResultLease.Milliseconds(), s.limits.ResultTTL.Milliseconds(), name, answer)
	if err != nil {
		return fmt.Errorf("%s a result: %w", what, err)
	}
	return nil
}
