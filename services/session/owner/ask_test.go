package owner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// asker is a session that asks its client one question.
type asker struct {
	*session
	heard chan string // the answer, at whoever asks
}

// ask asks. taken says that the server has the answer, or wants none.
func (a asker) ask() (taken context.CancelFunc) {
	ctx, taken := context.WithCancel(a.ctx)
	go func() {
		result, _ := a.await(ctx, standingEmitter{a.session}, jsonrpc.String("q"), nil)
		a.heard <- string(result)
	}()
	synctest.Wait()
	return taken
}

// answered has the client answer, and gives what it is told, once it is.
func (a asker) answered() <-chan error {
	told := make(chan error, 1)
	go func() { told <- a.answer(context.Background(), message(`{"jsonrpc":"2.0","id":"q","result":{}}`)) }()
	synctest.Wait()
	return told
}

// now fails the test unless a client is told by now.
func now(t *testing.T, told <-chan error, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-told:
		if !errors.Is(err, want) {
			t.Errorf("the client is told %v, want %v", err, want)
		}
	default:
		t.Error("the client is not told")
	}
}

// notYet fails the test where a client is told already.
func notYet(t *testing.T, told <-chan error) {
	t.Helper()
	synctest.Wait()
	if len(told) > 0 {
		t.Error("the client is told too early that its answer was taken")
	}
}

// An answer was taken once the server has it, or nobody wants it any more; and nobody waits for that for long.
func TestAnAnswerIsTakenOnceTheServerHasIt(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, a asker){
		"the server takes it": func(t *testing.T, a asker) {
			taken := a.ask()
			first := a.answered()
			if result := <-a.heard; result != "{}" {
				t.Errorf("who asks hears %q", result)
			}
			again := a.answered() // by a gateway that lost its connection
			notYet(t, first)
			notYet(t, again)
			taken()
			now(t, first, nil)
			now(t, again, nil)
			now(t, a.answered(), nil)
		},
		"the server takes nothing": func(t *testing.T, a asker) {
			defer a.ask()()
			told := a.answered()
			time.Sleep(takeTime - time.Nanosecond)
			notYet(t, told)
			time.Sleep(time.Nanosecond)
			now(t, told, nil)
		},
		"nobody asked": func(t *testing.T, a asker) {
			now(t, a.answered(), nil)
		},
		"it comes before its call is taken up": func(t *testing.T, a asker) {
			a.takingUp = 1
			told := a.answered()
			notYet(t, told)
			taken := a.ask()
			notYet(t, told)
			taken()
			now(t, told, nil)
			a.tookUp()
		},
		"no call that is taken up wants it": func(t *testing.T, a asker) {
			a.takingUp = 1
			told := a.answered()
			notYet(t, told)
			a.tookUp()
			now(t, told, nil)
		},
		"the session moves before": func(t *testing.T, a asker) {
			defer a.ask()()
			told := a.answered()
			notYet(t, told)
			a.cancel(errMoved)
			now(t, told, ErrStopped)
			now(t, a.answered(), ErrStopped)
		},
		"the session ends before": func(t *testing.T, a asker) {
			defer a.ask()()
			told := a.answered()
			a.cancel(nil)
			now(t, told, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := asker{newSession(New(Config{Catalog: nowhere{}, Opener: closedDoor{}}), record(), 1), make(chan string, 1)}
				defer a.close()
				test(t, a)
			})
		})
	}
}
