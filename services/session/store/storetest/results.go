package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

func testResults(t *testing.T, open Open) {
	key := store.ResultKey{Principal: "alice {1}:\n", Key: "k"}
	reserve := func(t *testing.T, s Opened, holder string, repeatable bool) store.Result {
		t.Helper()
		result, err := s.Reserve(t.Context(), key, "digest", holder, repeatable)
		must(t, err)
		return result
	}
	is := func(t *testing.T, got store.Result, want store.ResultState) {
		t.Helper()
		if got.State != want {
			t.Fatalf("it is %q, want %q", got.State, want)
		}
	}
	each(t, open, map[string]func(*testing.T, Opened){
		"a call is reserved once, and its answer is for all": func(t *testing.T, s Opened) {
			is(t, reserve(t, s, "a", true), store.Reserved)
			is(t, reserve(t, s, "b", true), store.UnderWay)
			wants(t, s.Settle(t.Context(), key, "b", []byte("mine")), store.ErrFenced)
			must(t, s.Renew(t.Context(), key, "a"))
			must(t, s.Settle(t.Context(), key, "a", []byte{0, 255, '\n'}))
			for range 2 {
				got := reserve(t, s, "c", true)
				is(t, got, store.Answered)
				if !bytes.Equal(got.Answer, []byte{0, 255, '\n'}) {
					t.Fatalf("the answer is %q", got.Answer)
				}
			}
			wants(t, s.Settle(t.Context(), key, "a", []byte("another")), store.ErrFenced)
			wants(t, s.Renew(t.Context(), key, "a"), store.ErrFenced)
		},
		"of many who reserve at once one may": func(t *testing.T, s Opened) {
			var reserved atomic.Int32
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					if got, err := s.Reserve(t.Context(), key, "digest", fmt.Sprint(i), true); err == nil && got.State == store.Reserved {
						reserved.Add(1)
					}
				})
			}
			all.Wait()
			if n := reserved.Load(); n != 1 {
				t.Fatalf("%d did", n)
			}
		},
		"a key stands for one call of one principal": func(t *testing.T, s Opened) {
			is(t, reserve(t, s, "a", false), store.Reserved)
			_, err := s.Reserve(t.Context(), key, "another digest", "a", true)
			wants(t, err, store.ErrOtherCall)
			got, err := s.Reserve(t.Context(), store.ResultKey{Principal: "bob", Key: key.Key}, "another digest", "a", true)
			must(t, err)
			is(t, got, store.Reserved)
		},
		"a key that was freed is free": func(t *testing.T, s Opened) {
			is(t, reserve(t, s, "a", false), store.Reserved)
			must(t, s.Settle(t.Context(), key, "a", nil))
			if n := s.Left(); n != 0 {
				t.Errorf("%d things are left", n)
			}
			is(t, reserve(t, s, "b", false), store.Reserved)
		},
		"a key is of 1 to 256 bytes": func(t *testing.T, s Opened) {
			for _, bad := range []store.ResultKey{{Principal: "a"}, {Key: "k"}, {Principal: "a", Key: string(make([]byte, 257))}} {
				_, err := s.Reserve(t.Context(), bad, "d", "h", true)
				wants(t, err, store.ErrInvalid)
			}
		},
	})
	t.Run("a call whose holder is gone is abandoned", func(t *testing.T) {
		s := open(t, store.Limits{ResultLease: brief})
		is(t, reserve(t, s, "a", false), store.Reserved)
		testkit.Eventually(t, func() bool { return reserve(t, s, "b", false).State == store.Abandoned }, patience)
		is(t, reserve(t, s, "b", true), store.Reserved) // one that may be repeated goes on
		wants(t, s.Settle(t.Context(), key, "a", []byte("late")), store.ErrFenced)
		must(t, s.Settle(t.Context(), key, "b", []byte("done")))
		is(t, reserve(t, s, "c", false), store.Answered)
	})
	t.Run("an abandoned call's holder may still answer", func(t *testing.T) {
		s := open(t, store.Limits{ResultLease: brief})
		is(t, reserve(t, s, "a", false), store.Reserved)
		testkit.Eventually(t, func() bool { return reserve(t, s, "b", false).State == store.Abandoned }, patience)
		must(t, s.Settle(t.Context(), key, "a", []byte("late")))
		is(t, reserve(t, s, "b", false), store.Answered)
	})
	t.Run("results are bounded and end", func(t *testing.T) {
		s := open(t, store.Limits{ResultTTL: 500 * time.Millisecond, ResultBytes: 3, PrincipalResults: 2})
		is(t, reserve(t, s, "a", false), store.Reserved)
		wants(t, s.Settle(t.Context(), key, "a", []byte("four")), store.ErrTooLarge)
		_, err := s.Reserve(t.Context(), store.ResultKey{Principal: key.Principal, Key: "2"}, "d", "a", true)
		must(t, err)
		_, err = s.Reserve(t.Context(), store.ResultKey{Principal: key.Principal, Key: "3"}, "d", "a", true)
		wants(t, err, store.ErrLimit)
		testkit.Eventually(t, func() bool {
			if _, err := s.Nodes(t.Context()); err != nil { // a use, for stores that sweep then
				t.Fatal(err)
			}
			return s.Left() == 0
		}, patience)
	})
}
