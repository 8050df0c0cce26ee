package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"erlmcp.dev/shared/upstream"
)

// peer is a conversation that only counts how often it was closed.
type peer struct{ closed atomic.Int32 }

func (*peer) Call(context.Context, upstream.Request, upstream.Listener) (upstream.Reply, error) {
	return upstream.Reply{Result: json.RawMessage("{}")}, nil
}
func (*peer) Notify(context.Context, string, json.RawMessage) error { return nil }
func (p *peer) Close() error                                        { p.closed.Add(1); return nil }

func TestASlotIsOpenedOnceForAll(t *testing.T) {
	opened := atomic.Int32{}
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := &slot{open: func(context.Context) (End, error) {
		if opened.Add(1) == 1 {
			close(begun)
		}
		<-goOn
		return End{Peer: &peer{}}, nil
	}}
	ends := make(chan End, 10)
	var callers sync.WaitGroup
	for range cap(ends) {
		callers.Go(func() {
			end, err := s.get(t.Context())
			if err != nil {
				t.Error(err)
			}
			ends <- end
		})
	}
	<-begun
	close(goOn)
	callers.Wait()
	first := <-ends
	for range cap(ends) - 1 {
		if end := <-ends; end.Peer != first.Peer {
			t.Error("two callers have two conversations")
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
}

func TestABrokenConversationIsClosedOnceAndOpenedAnew(t *testing.T) {
	s := &slot{open: func(context.Context) (End, error) { return End{Peer: &peer{}}, nil }}
	broken, _ := s.get(t.Context())
	s.drop(broken)
	again, _ := s.get(t.Context())
	s.drop(broken) // whoever noticed late must not end the new one
	if now, isOpen := s.current(); !isOpen || now.Peer != again.Peer || again.Peer == broken.Peer {
		t.Error("the conversation was not opened anew, or the new one was dropped")
	}
	if n := broken.Peer.(*peer).closed.Load(); n != 1 {
		t.Errorf("the broken one was closed %d times", n)
	}
	if n := again.Peer.(*peer).closed.Load(); n != 0 {
		t.Error("the new one was closed")
	}
}

func TestWhoWaitsForASlotHasATimeOfItsOwn(t *testing.T) {
	begun := make(chan struct{})
	s := &slot{open: func(ctx context.Context) (End, error) {
		close(begun)
		<-ctx.Done()
		return End{}, ctx.Err()
	}}
	opening := make(chan error, 1)
	go func() { _, err := s.get(t.Context()); opening <- err }()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that went away got %v", err)
	}
	s.close() // ends the opening
	if err := <-opening; !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("the one that opened got %v", err)
	}
	if _, err := s.get(t.Context()); !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("after the end a caller got %v", err)
	}
}

func TestAConversationThatOpensTooLateIsClosed(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	late := &peer{}
	s := &slot{open: func(context.Context) (End, error) { close(begun); <-goOn; return End{Peer: late}, nil }}
	opening := make(chan error, 1)
	go func() { _, err := s.get(t.Context()); opening <- err }()
	<-begun
	s.close()
	close(goOn)
	if err := <-opening; !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if n := late.closed.Load(); n != 1 {
		t.Errorf("closed %d times", n)
	}
}

func TestAFailedOpeningIsTriedAgain(t *testing.T) {
	errAway := errors.New("away")
	fail := true
	s := &slot{open: func(context.Context) (End, error) {
		if fail {
			return End{}, errAway
		}
		return End{Peer: &peer{}}, nil
	}}
	if _, err := s.get(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("got %v", err)
	}
	fail = false
	if _, err := s.get(t.Context()); err != nil {
		t.Errorf("the second time it got %v", err)
	}
}

// A caller that gives up before its request was sent must not end a conversation that others have calls on.
func TestACallerThatGivesUpBreaksNothing(t *testing.T) {
	for _, x := range []struct {
		err    error
		end    End
		broken bool
	}{
		{fmt.Errorf("%w: %w", upstream.ErrNotSent, context.Canceled), End{}, false},
		{fmt.Errorf("%w: it does not read", upstream.ErrNotSent), End{}, true},
		{fmt.Errorf("%w: it can't be reached", upstream.ErrNotSent), End{Conversation: &Conversation{}}, false},
		{upstream.ErrSessionGone, End{Conversation: &Conversation{}}, true},
		{fmt.Errorf("%w: %w", upstream.ErrNotSent, upstream.ErrClosed), End{Conversation: &Conversation{}}, true},
		{upstream.ErrLost, End{}, false},
	} {
		if got := x.end.broken(x.err); got != x.broken {
			t.Errorf("%v: broken %v", x.err, got)
		}
	}
}
