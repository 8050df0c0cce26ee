package owner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"erlmcp.dev/services/session/store"
)

// Run keeps this process's lease and looks after its sessions until ctx ends; then it hands them over.
func (o *Owner) Run(ctx context.Context) error {
	lease, err := o.config.Store.Join(ctx, o.config.Node, o.config.Lease)
	if err != nil {
		return fmt.Errorf("joining the session owners: %w", err)
	}
	var looking sync.WaitGroup
	looking.Go(func() { o.look(ctx) })
	beat := time.NewTicker(o.config.Lease / 3)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			lease = o.beat(ctx, lease)
		case <-ctx.Done():
			looking.Wait()
			o.stop(lease)
			return nil
		}
	}
}

// look looks after the sessions until ctx ends. It is apart from the beat, which must not wait for servers whose
// conversations end slowly.
func (o *Owner) look(ctx context.Context) {
	tick := time.NewTicker(min(o.config.IdleTime/4, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			o.lookAfter(ctx)
			o.guests.lookAfter()
		case <-ctx.Done():
			return
		}
	}
}

// beat renews the lease. An owner that can't goes on: should another one adopt its sessions meanwhile, the
// store refuses its writes.
func (o *Owner) beat(ctx context.Context, lease store.Lease) store.Lease {
	ctx, cancel := context.WithTimeout(ctx, o.config.Lease/3)
	defer cancel()
	err := o.config.Store.Beat(ctx, lease)
	if errors.Is(err, store.ErrLeaseLost) {
		var renewed store.Lease
		if renewed, err = o.config.Store.Join(ctx, o.config.Node, o.config.Lease); err == nil {
			o.log.Warn("the owner's lease had run out; it was renewed, and sessions that were adopted meanwhile are let go")
			lease = renewed
			o.touch(ctx, o.all())
		}
	}
	if err != nil && ctx.Err() == nil {
		o.log.Warn("renewing the owner's lease failed; trying again", "error", err)
	}
	return lease
}

// lookAfter ends sessions that were not used for long, and keeps the used ones in the store.
func (o *Owner) lookAfter(ctx context.Context) {
	now := time.Now()
	var used []*session
	for _, s := range o.all() {
		idle := s.idle(now)
		if idle > o.config.IdleTime {
			if err := o.Close(ctx, s.record.ID); err != nil {
				o.log.Warn("closing an idle session failed", "session", s.record.ID, "error", err)
			}
			continue
		}
		if idle < o.config.IdleTime/2 {
			used = append(used, s)
		}
	}
	o.touch(ctx, used)
}

// touch says that sessions are in use, and lets those go that are no longer this process's.
func (o *Owner) touch(ctx context.Context, sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	holds := make([]store.Hold, len(sessions))
	held := make(map[string]*session, len(sessions))
	for i, s := range sessions {
		holds[i] = store.Hold{ID: s.record.ID, Epoch: s.epoch}
		held[s.record.ID] = s
	}
	lost, err := o.config.Store.Touch(ctx, o.config.Node.Name, holds)
	if err != nil && ctx.Err() == nil {
		o.log.Warn("keeping used sessions failed; trying again", "error", err)
	}
	for _, id := range lost {
		o.moved(held[id])
	}
}

// stop hands all sessions over: they are released, so that the next owner asked adopts them at once.
func (o *Owner) stop(lease store.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	sessions := o.all()
	var ending, closing sync.WaitGroup
	for _, s := range sessions {
		ending.Go(func() { s.endCalls(ctx) }) // while their answers can be logged, for the next owner's clients
	}
	ending.Wait()
	for _, s := range sessions {
		if err := o.config.Store.Release(ctx, s.record.ID, o.config.Node.Name, s.epoch); err != nil && !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrNotFound) {
			o.log.Warn("handing over a session failed; it is adopted when the lease runs out", "session", s.record.ID, "error", err)
		}
		o.let(s)
		s.cancel(ErrStopped)
		closing.Go(s.close)
	}
	closing.Wait()
	o.closing.Wait()
	o.tasks.Stop()
	o.guests.close()
	o.endings.close()
	if err := o.config.Store.Leave(ctx, lease); err != nil {
		o.log.Warn("leaving the session owners failed; the lease runs out by itself", "error", err)
	}
}

// endings numbers the sessions that ended or moved or whose facts changed, and tells those who watch.
type endings struct {
	mu       sync.Mutex
	number   uint64
	closed   bool
	watchers map[chan Ending]struct{}
}

// Ending is one session that ended or moved.
type Ending struct {
	Mark uint64
	ID   string
}

func (e *endings) mark() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.number
}

func (e *endings) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	for w := range e.watchers {
		select {
		case w <- Ending{e.number, id}:
		default: // too slow: its watch ends, and it starts over
			close(w)
			delete(e.watchers, w)
		}
	}
}

func (e *endings) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for w := range e.watchers {
		close(w)
		delete(e.watchers, w)
	}
}

// Watch passes the endings of sessions to send, the present mark first, until ctx ends or it lags too far.
func (o *Owner) Watch(ctx context.Context, send func(Ending) error) error {
	e := &o.endings
	w := make(chan Ending, 4096)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrStopped
	}
	if e.watchers == nil {
		e.watchers = map[chan Ending]struct{}{}
	}
	e.watchers[w] = struct{}{}
	present := e.number
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, w)
	}()
	if err := send(Ending{Mark: present}); err != nil {
		return err
	}
	for {
		select {
		case ending, ok := <-w:
			if !ok {
				return ErrStopped
			}
			if err := send(ending); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
