package owner

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestAStreamKeepsWhatItsReaderHasNotPassedOn(t *testing.T) {
	s := newStream("1")
	for i := range 3 {
		s.put(event{message: fmt.Append(nil, i)})
	}
	first := s.attach()
	if got := first.next(t.Context()); len(got) != 3 {
		t.Fatalf("got %d events", len(got))
	}
	second := s.attach() // the first one's connection broke before it passed them on
	if !second.tookOver || !first.displaced() {
		t.Error("the first reader was not displaced")
	}
	if got := first.next(t.Context()); len(got) != 0 {
		t.Errorf("a displaced reader got %d events", len(got))
	}
	first.detach() // takes nothing from the second
	got := second.next(t.Context())
	if len(got) != 3 || string(got[2].message) != "2" {
		t.Errorf("the second reader got %v", got)
	}
	s.put(event{message: []byte("3")})
	s.end()
	s.put(event{message: []byte("never")})
	if got := second.next(t.Context()); len(got) != 1 || string(got[0].message) != "3" {
		t.Errorf("then it got %v", got)
	}
	if got := second.next(t.Context()); len(got) != 0 {
		t.Errorf("behind the end it got %v", got)
	}
}

func TestAStreamIsBounded(t *testing.T) {
	for name, fill := range map[string]struct{ events, size int }{
		"by events": {maxStreamEvents, 1},
		"by bytes":  {4, maxStreamBytes / 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStream("1")
			for i := range fill.events {
				if s.full() {
					t.Fatalf("full after %d events", i)
				}
				s.put(event{message: make([]byte, fill.size)})
			}
			if !s.full() {
				t.Fatal("there is no bound")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.room(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("waiting for room in a full stream gave %v", err)
			}
			posted := make(chan error, 1)
			go func() {
				err := s.room(t.Context())
				s.put(event{message: []byte("last")})
				posted <- err
			}()
			r := s.attach()
			if got := len(r.next(t.Context())); got != fill.events {
				t.Errorf("the reader got %d events", got)
			}
			if got := r.next(t.Context()); len(got) != 1 || string(got[0].message) != "last" { // which makes room
				t.Errorf("then it got %v", got)
			}
			if err := <-posted; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhoWaitsForRoomLearnsOfTheEnd(t *testing.T) {
	s := newStream("1")
	for range maxStreamEvents {
		s.put(event{message: []byte("x")})
	}
	posted := make(chan error, 1)
	go func() { posted <- s.room(t.Context()) }()
	s.end()
	if err := <-posted; !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
}

// FuzzEventID: an id is read as it was written, or refused.
func FuzzEventID(f *testing.F) {
	for _, id := range []string{"0:1", "1-a:18446744073709551615", "0:", ":1", "0:-1", "0:+1", "a:b:1", "0: 1", "\x00:1", "0:1\n"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		name, seq, err := parseEventID(id)
		if err != nil {
			if !errors.Is(err, ErrEventID) {
				t.Errorf("%q: %v", id, err)
			}
			return
		}
		if name == "" || len(name) > 32 {
			t.Errorf("%q names the stream %q", id, name)
		}
		if seq == 0 {
			return // the place before the first event
		}
		again, number, err := parseEventID(newStream(name).exported(event{seq: seq}).ID)
		if err != nil || again != name || number != seq {
			t.Errorf("%q is %q, %d, and written again %q, %d, %v", id, name, seq, again, number, err)
		}
	})
}
