package mcpio_test

import (
	"errors"
	"testing"

	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcpio"
)

// The queue has room for a while after nobody empties it any more.
func TestNothingIsTakenOnceTheConversationEnded(t *testing.T) {
	c, p := start(t, mcpio.Config{})
	_ = p.Conn.Close()
	<-c.Done()
	for range 100 {
		if err := c.Notify(t.Context(), "n", nil); !errors.Is(err, upstream.ErrSessionGone) {
			t.Fatalf("after the program ended: %v", err)
		}
	}
	_ = c.Close()
	c, _ = start(t, mcpio.Config{})
	_ = c.Close()
	for range 100 {
		if err := c.Notify(t.Context(), "n", nil); !errors.Is(err, upstream.ErrClosed) || !errors.Is(err, upstream.ErrNotSent) {
			t.Fatalf("after Close: %v", err)
		}
	}
}
