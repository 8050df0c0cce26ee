package memory

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"
)

// result is a call under a key.
type result struct {
	key            store.ResultKey
	digest, holder string
	until          time.Time // the holder's lease
	answer         []byte
	answered       bool
	ends           time.Time
	place          *list.Element
}

// results are all of them. The store's lock guards them.
type results struct {
	byKey map[store.ResultKey]*result
	ends  list.List      // the one that ends first is first: all live equally long
	of    map[string]int // by principal; those with none are absent
}

func (r *results) sweep(now time.Time) {
	for front := r.ends.Front(); front != nil; front = r.ends.Front() {
		oldest := front.Value.(*result)
		if now.Before(oldest.ends) {
			return
		}
		r.drop(oldest)
	}
}

func (r *results) drop(gone *result) {
	r.ends.Remove(gone.place)
	delete(r.byKey, gone.key)
	if r.of[gone.key.Principal]--; r.of[gone.key.Principal] == 0 {
		delete(r.of, gone.key.Principal)
	}
}

// Reserve implements [store.Results].
func (s *Store) Reserve(_ context.Context, key store.ResultKey, digest, holder string, repeatable bool) (store.Result, error) {
	if err := key.Check(); err != nil {
		return store.Result{}, err
	}
	now := s.lock()
	defer s.mu.Unlock()
	r := s.results.byKey[key]
	switch {
	case r == nil && s.results.of[key.Principal] >= s.limits.PrincipalResults:
		return store.Result{}, fmt.Errorf("%d results of principal %q: %w", s.limits.PrincipalResults, key.Principal, store.ErrLimit)
	case r == nil:
		r = &result{key: key, digest: digest}
		r.place = s.results.ends.PushBack(r)
		s.results.byKey[key] = r
		s.results.of[key.Principal]++
	case r.digest != digest:
		return store.Result{}, store.ErrOtherCall
	case r.answered:
		return store.Result{State: store.Answered, Answer: r.answer}, nil
	case now.Before(r.until):
		return store.Result{State: store.UnderWay}, nil
	case !repeatable:
		return store.Result{State: store.Abandoned}, nil
	}
	r.holder = holder
	s.hold(r, now)
	return store.Result{State: store.Reserved}, nil
}

// hold gives a result its time anew. The caller holds the lock.
func (s *Store) hold(r *result, now time.Time) {
	r.until, r.ends = now.Add(s.limits.ResultLease), now.Add(s.limits.ResultTTL)
	s.results.ends.MoveToBack(r.place)
}

// held is the result that holder has under way. The caller holds the lock.
func (s *Store) held(key store.ResultKey, holder string) (*result, error) {
	r := s.results.byKey[key]
	if r == nil || r.holder != holder || r.answered {
		return nil, fmt.Errorf("a result: %w", store.ErrFenced)
	}
	return r, nil
}

// Renew implements [store.Results].
func (s *Store) Renew(_ context.Context, key store.ResultKey, holder string) error {
	now := s.lock()
	defer s.mu.Unlock()
	r, err := s.held(key, holder)
	if err == nil {
		s.hold(r, now)
	}
	return err
}

// Settle implements [store.Results].
func (s *Store) Settle(_ context.Context, key store.ResultKey, holder string, answer []byte) error {
	if len(answer) > s.limits.ResultBytes {
		return fmt.Errorf("a result of %d bytes: %w", len(answer), store.ErrTooLarge)
	}
	now := s.lock()
	defer s.mu.Unlock()
	r, err := s.held(key, holder)
	switch {
	case err != nil:
		return err
	case answer == nil:
		s.results.drop(r)
		return nil
	}
	r.answer, r.answered = answer, true
	s.hold(r, now)
	return nil
}
