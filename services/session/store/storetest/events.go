package storetest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/testkit"
)

// log is the events of one session that node "a" owns.
type log struct {
	testing.TB
	store.Store
	id string
}

func newLog(t testing.TB, s store.Store) log { return log{TB: t, Store: s, id: create(t, s, "a")} }

func (l log) append(stream string, messages ...string) uint64 {
	l.Helper()
	list := make([][]byte, len(messages))
	for i, message := range messages {
		list[i] = []byte(message)
	}
	first, err := l.Store.Append(l.Context(), l.id, "a", 1, stream, list...)
	must(l, err)
	return first
}

func (l log) close(stream string) {
	l.Helper()
	must(l, l.CloseStream(l.Context(), l.id, "a", 1, stream))
}

// reads fails the test unless exactly these messages are there to read.
func (l log) reads(stream string, after uint64, closed bool, want ...string) []store.Event {
	l.Helper()
	page, err := l.Read(l.Context(), l.id, stream, after, 0)
	must(l, err)
	var got []string
	for _, event := range page.Events {
		got = append(got, string(event.Message))
		if event.Seq <= after {
			l.Fatalf("event %d was read after %d", event.Seq, after)
		}
		after = event.Seq
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.Fatalf("stream %s: %s", stream, diff)
	}
	if page.Closed != closed {
		l.Fatalf("stream %s: closed is %v", stream, page.Closed)
	}
	return page.Events
}

func (l log) gone(stream string, after uint64) {
	l.Helper()
	_, err := l.Read(l.Context(), l.id, stream, after, 0)
	wants(l, err, store.ErrGone)
}

func testEvents(t *testing.T, open Open) {
	each(t, open, map[string]func(*testing.T, Opened){
		"streams are read from any of their events": func(t *testing.T, s Opened) {
			l := newLog(t, s)
			first := l.append("x", "x1", "x2")
			l.append("y", "y1")
			third := l.append("x", "x3")
			if first == 0 || third <= first+1 {
				t.Fatalf("the first is %d and the third %d", first, third)
			}
			events := l.reads("x", 0, false, "x1", "x2", "x3")
			if events[0].Seq != first || events[1].Seq != first+1 || events[2].Seq != third {
				t.Fatalf("got %v", events)
			}
			l.reads("x", first, false, "x2", "x3")
			l.reads("x", third, false)
			l.reads("x", math.MaxUint64, false)
			l.reads("y", 0, false, "y1")
			l.reads("never", 0, false)
		},
		"messages are any bytes": func(t *testing.T, s Opened) {
			l := newLog(t, s)
			message := "\x00\r\n$5\xff{}" + strings.Repeat("long", 10_000)
			l.append("s {t}:r \n", message, "")
			l.reads("s {t}:r \n", 0, false, message, "")
		},
		"a page has its limit": func(t *testing.T, s Opened) {
			l := newLog(t, s)
			for i := range 300 {
				l.append([]string{"x", "y"}[i%2], fmt.Sprint(i))
			}
			l.close("x")
			after, got := uint64(0), 0
			for {
				page, err := s.Read(t.Context(), l.id, "x", after, 7)
				must(t, err)
				if len(page.Events) > 7 {
					t.Fatalf("a page of %d", len(page.Events))
				}
				for _, event := range page.Events {
					if string(event.Message) != fmt.Sprint(2*got) {
						t.Fatalf("event %d is %s", got, event.Message)
					}
					after = event.Seq
					got++
				}
				if page.Closed {
					break
				}
			}
			if got != 150 {
				t.Fatalf("%d events", got)
			}
		},
		"a closed stream is read and takes no more": func(t *testing.T, s Opened) {
			l := newLog(t, s)
			first := l.append("x", "x1", "x2")
			l.close("x")
			l.close("x")
			_, err := s.Append(t.Context(), l.id, "a", 1, "x", []byte("late"))
			wants(t, err, store.ErrClosed)
			l.reads("x", 0, true, "x1", "x2")
			l.reads("x", first+1, true)
			l.reads("x", first+1000, true)
			l.close("never begun")
			l.reads("never begun", 0, true)
			l.append("y", "y1")
		},
		"what can't be appended is refused": func(t *testing.T, s Opened) {
			l := newLog(t, s)
			_, err := s.Append(t.Context(), l.id, "a", 1, "", []byte("m"))
			wants(t, err, store.ErrInvalid)
			_, err = s.Append(t.Context(), l.id, "a", 1, strings.Repeat("x", 1000), []byte("m"))
			wants(t, err, store.ErrInvalid)
			_, err = s.Append(t.Context(), l.id, "a", 1, "x")
			wants(t, err, store.ErrInvalid)
			wants(t, s.CloseStream(t.Context(), l.id, "a", 1, ""), store.ErrInvalid)
			_, err = s.Read(t.Context(), l.id, "", 0, 0)
			wants(t, err, store.ErrInvalid)
		},
		"sessions have logs of their own": func(t *testing.T, s Opened) {
			one, two := newLog(t, s), newLog(t, s)
			one.append("x", "one")
			two.append("x", "two")
			one.reads("x", 0, false, "one")
			two.reads("x", 0, false, "two")
		},
	})

	t.Run("the oldest events go when there are too many and a lost log is told from an empty one", func(t *testing.T) {
		l := newLog(t, open(t, store.Limits{Events: 3}))
		quiet := l.append("quiet", "q1")
		first := l.append("x", "x1", "x2", "x3") // q1 goes
		l.gone("quiet", 0)
		l.reads("quiet", quiet, false)
		l.reads("never", 0, false)
		l.append("y", "y1") // x1 goes
		l.gone("x", 0)
		l.reads("x", first, false, "x2", "x3")
		fourth := l.append("x", "x4", "x5", "x6", "x7")
		l.gone("x", first+2)
		l.gone("x", fourth-1)
		l.reads("x", fourth, false, "x5", "x6", "x7")
		l.gone("y", 0)
		l.append("y", "y2")
		l.gone("y", 0)
	})

	t.Run("the oldest events go when they are too large", func(t *testing.T) {
		l := newLog(t, open(t, store.Limits{EventBytes: 10}))
		first := l.append("x", "12345", "12345")
		l.reads("x", 0, false, "12345", "12345")
		l.append("x", "6")
		l.gone("x", 0)
		l.reads("x", first, false, "12345", "6")
		huge := l.append("x", strings.Repeat("x", 11))
		if huge <= first+2 {
			t.Fatalf("the huge event is %d", huge)
		}
		l.gone("x", first+2)
		l.reads("x", huge, false)
		l.append("x", "7")
		l.reads("x", huge, false, "7")
	})

	t.Run("old events go when the session appends", func(t *testing.T) {
		l := newLog(t, open(t, store.Limits{EventAge: brief}))
		first := l.append("x", "x1")
		l.append("y", "y1")
		l.close("x")
		testkit.Eventually(t, func() bool {
			last := l.append("z", "z")
			_, err := l.Read(t.Context(), l.id, "x", 0, 0)
			if err == nil {
				return false
			}
			wants(t, err, store.ErrGone)
			return last > first
		}, patience)
		testkit.Eventually(t, func() bool {
			last := l.append("z", "z")
			page, err := l.Read(t.Context(), l.id, "z", last-1, 0)
			must(t, err)
			_, err = l.Read(t.Context(), l.id, "y", 0, 0)
			return len(page.Events) == 1 && err != nil
		}, patience)
	})

	t.Run("of streams without events only some are remembered", func(t *testing.T) {
		l := newLog(t, open(t, store.Limits{Events: 1, TrimmedStreams: 2}))
		var last uint64
		for i := range 10 {
			last = l.append(fmt.Sprint("s", i), "m")
		}
		l.gone("s0", 0) // forgotten: it might have been there
		l.gone("s0", 1)
		l.gone("s7", 0)
		l.reads("s7", last-2, false)
		l.gone("s8", last-2)
		l.reads("s8", last-1, false)
		l.reads("s9", last-1, false, "m")
		begun := l.append("new", "m")
		l.gone("new", 0)
		l.reads("new", begun-1, false, "m")
		l.reads("never", begun, false)
		back := l.append("s0", "m") // a forgotten one comes back
		l.gone("s0", 1)
		l.reads("s0", back-1, false, "m")
	})

	t.Run("events live as long as their session and no longer", func(t *testing.T) {
		const idle = time.Second
		s := open(t, store.Limits{IdleTTL: idle, Events: 2})
		l := newLog(t, s)
		start := time.Now()
		testkit.Eventually(t, func() bool {
			l.append("x", "x1")
			l.append("y", "y1")
			lost, err := s.Touch(t.Context(), "a", []store.Hold{{ID: l.id, Epoch: 1}})
			if err != nil || len(lost) > 0 {
				t.Fatalf("lost %v, error %v", lost, err)
			}
			return time.Since(start) > idle+idle/2
		}, patience)
		l.reads("y", l.append("y", "y2")-1, false, "y2")
		testkit.Eventually(t, func() bool { return s.Left() == 0 }, patience)
	})
}
