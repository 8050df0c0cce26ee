package channel

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/gateway/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deaf is a Conn whose client asks and never reads.
type deaf struct {
	asked  chan []byte
	closed chan struct{}
	once   sync.Once
	why    Reason
}

func (d *deaf) Read() ([]byte, error) {
	select {
	case m := <-d.asked:
		return m, nil
	case <-d.closed:
		return nil, errors.New("closed")
	}
}

func (d *deaf) Write(ctx context.Context, _ [][]byte) error {
	<-ctx.Done()
	return ctx.Err()
}

func (d *deaf) Close(why Reason) {
	d.once.Do(func() { d.why = why; close(d.closed) })
}

func TestAClientThatTakesNothingIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{WriteTimeout: 30 * time.Second}
		d := &deaf{asked: make(chan []byte, 1), closed: make(chan struct{})}
		d.asked <- []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		began := time.Now()
		s.Serve(t.Context(), d, engine.Client{}, Options{})
		if d.why != TooSlow || time.Since(began) != 30*time.Second {
			t.Errorf("ended after %s: %s", time.Since(began), d.why)
		}
		s.Shutdown(t.Context())
	})
}

func TestARevokedCredentialEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		d := &deaf{asked: make(chan []byte), closed: make(chan struct{})}
		checks := 0
		s.Serve(t.Context(), d, engine.Client{}, Options{Authorized: func(context.Context) bool { checks++; return checks < 3 }})
		if d.why != Unauthorized || checks != 3 {
			t.Errorf("ended after %d checks: %s", checks, d.why)
		}
		s.Shutdown(t.Context())
	})
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	s := &Server{}
	d := &deaf{asked: make(chan []byte), closed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		s.Serve(t.Context(), d, engine.Client{}, Options{})
		close(done)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Shutdown(ctx)
	late := &deaf{closed: make(chan struct{})}
	<-done // served, or refused because Shutdown came first
	s.Serve(t.Context(), late, engine.Client{}, Options{})
	if d.why != Draining || late.why != Draining {
		t.Errorf("ended: %s; %s", d.why, late.why)
	}
}
