package mcphttp

import (
	"context"
	"sync"
	"time"

	"erlmcp.dev/shared/upstream/mux"
)

// Bounds of telling a server that nobody waits for a call any more.
const (
	cancelTime = 5 * time.Second
	maxLate    = 256
)

// cancellations tell a server of calls that their callers gave up, without holding up the callers.
type cancellations struct {
	slots chan struct{} // of capacity maxLate
	mu    sync.Mutex    // held while sends grow, and while they are waited for
	sends sync.WaitGroup
}

// send sends a call's cancellation, unless ctx, the conversation's, is over. A server that is slow to take them
// makes further callers wait.
func (c *cancellations) send(ctx context.Context, call *mux.Call, send func(context.Context, []byte) error) {
	message := call.Cancelled("the caller gave up")
	tell := func() {
		ctx, cancel := context.WithTimeout(ctx, cancelTime)
		defer cancel()
		_ = send(ctx, message) // the answer, if one still comes, is dropped
	}
	select {
	case c.slots <- struct{}{}:
	default:
		tell()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		<-c.slots
		return
	}
	c.sends.Add(1)
	go func() {
		defer c.sends.Done()
		defer func() { <-c.slots }()
		tell()
	}()
}

// wait waits for what is being sent, once the conversation's context ended.
func (c *cancellations) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sends.Wait()
}
