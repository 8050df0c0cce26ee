package owner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// adoption is a session's taking over, for all who ask for it meanwhile. It goes on though they give up: they ask again,
// and where an owner of many sessions died, each waits for its turn.
type adoption struct {
	over    chan struct{} // closed once there is a session or an error
	session *session
	err     error
}

const (
	// maxAdopts is how many sessions are adopted at once: enough to keep the store busy.
	maxAdopts = 64
	// adoptTime bounds one adoption, its turn apart.
	adoptTime = 10 * time.Second
)

// session returns a session of this process, adopting it if nobody else owns it: ErrNotFound, *MovedError.
func (o *Owner) session(ctx context.Context, id string) (*session, error) {
	o.mu.Lock()
	if s := o.sessions[id]; s != nil {
		o.mu.Unlock()
		return s, nil
	}
	switch {
	case o.stopped:
		o.mu.Unlock()
		return nil, ErrStopped
	case o.config.Ready() != nil:
		o.mu.Unlock()
		return nil, ErrNotReady
	}
	a := o.adopting[id]
	if a == nil {
		a = &adoption{over: make(chan struct{})}
		o.adopting[id] = a
		o.closing.Go(func() { o.adopt(context.WithoutCancel(ctx), id, a) })
	}
	o.mu.Unlock()
	select {
	case <-a.over:
		return a.session, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// adopt takes over a session whose owner is gone, in its turn.
func (o *Owner) adopt(ctx context.Context, id string, a *adoption) {
	s, err := (*session)(nil), ErrStopped
	select {
	case o.adopts <- struct{}{}:
		s, err = o.claim(ctx, id)
		<-o.adopts
	case <-o.life.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case s != nil && o.stopped: // leaving frees it for others
		s.cancel(errMoved)
		s, err = nil, ErrStopped
	case s != nil:
		o.sessions[id] = s
		o.tell(s, metricsv1.SessionEvent_KIND_ADOPTED, "")
		s.takeUp()
		s.takeUpCalls()
	}
	a.session, a.err = s, err
	close(a.over)
	delete(o.adopting, id)
}

// claim makes this process the owner of a session whose owner is gone, and reads it.
func (o *Owner) claim(ctx context.Context, id string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, adoptTime)
	defer cancel()
	defer context.AfterFunc(o.life, cancel)()
	held, err := o.config.Store.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w: %w", ErrStore, err)
	}
	if held.Owner.Holds() && held.Owner.Node != o.config.Node.Name {
		return nil, movedTo(held)
	}
	if held.Owner.Node == o.config.Node.Name && o.isAway(id) {
		return nil, ErrStopped
	}
	epoch, err := o.config.Store.Claim(ctx, id, o.config.Node.Name, held.Owner.Epoch)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrNotFound
	case err != nil && !errors.Is(err, store.ErrOwned):
		return nil, fmt.Errorf("adopting a session: %w: %w", ErrStore, err)
	}
	claimed := err == nil
	// What the owner before wrote until the claim counts, so it is read again under the new epoch.
	if held, err = o.config.Store.Get(ctx, id); err != nil {
		return nil, fmt.Errorf("reading an adopted session: %w: %w", ErrStore, err)
	}
	if !claimed {
		return nil, movedTo(held)
	}
	o.log.InfoContext(ctx, "adopted a session", "session", id, "epoch", epoch)
	return newSession(o, held.Record, epoch), nil
}

func movedTo(held store.Session) *MovedError {
	return &MovedError{Facts{
		Record: Told(held.Record),
		Owner:  store.Node{Name: held.Owner.Node, Address: held.Owner.Address},
		Epoch:  held.Owner.Epoch,
	}}
}
