package owner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"erlmcp.dev/services/session/store"
)

// Run keeps this process's lease and looks after its sessions until ctx ends; then it hands them over.
func (o *Owner) Run(ctx context.Context) error {
	lease, err := o.join(ctx)
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
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				o.handOverAll()
			}()
			for over := false; !over; {
				select {
				case <-beat.C: // until all is handed over, nobody else may take it
					lease = o.beat(context.WithoutCancel(ctx), lease)
				case <-stopped:
					over = true
				}
			}
			o.leave(lease)
			return nil
		}
	}
}

// joinWait is how long a process that starts waits for its store, which may have been started with it.
const joinWait = time.Minute

// join takes the first lease.
func (o *Owner) join(ctx context.Context) (store.Lease, error) {
	giveUp := time.Now().Add(joinWait)
	for told := false; ; told = true {
		lease, err := o.config.Store.Join(ctx, o.config.Node, o.config.Lease)
		if err == nil || ctx.Err() != nil || time.Now().After(giveUp) {
			return lease, err
		}
		if !told {
			o.log.Warn("the session store can't be reached; waiting for it", "at_most", joinWait, "error", err)
		}
		select {
		case <-time.After(o.config.Lease / 10):
		case <-ctx.Done():
			return lease, err
		}
	}
}

// look looks after the sessions until ctx ends. It is apart from the beat, which must not wait for servers whose
// conversations end slowly.
func (o *Owner) look(ctx context.Context) {
	every := min(o.config.IdleTime/4, 10*time.Second)
	if o.config.MaxAge > 0 {
		every = min(every, o.config.MaxAge/4)
	}
	tick := time.NewTicker(every)
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
	if err == nil || errors.Is(err, store.ErrLeaseLost) {
		o.silent.Store(false)
	}
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

// lookAfter ends sessions that were not used for long or are too old, and keeps the used ones in the store.
func (o *Owner) lookAfter(ctx context.Context) {
	now := time.Now()
	var used []*session
	for _, s := range o.all() {
		idle := s.idle(now)
		if idle > o.config.IdleTime || o.config.MaxAge > 0 && s.outlived(now, o.config.MaxAge) {
			reason := "idle"
			if idle <= o.config.IdleTime {
				reason = "too old"
			}
			if err := o.end(ctx, s.record.ID, false, reason); err != nil {
				o.log.Warn("closing a session that is idle or too old failed", "session", s.record.ID, "error", err)
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

// handOverAll hands all sessions over, each once its calls have ended or the drain time is over: it is released, so that the
// next owner asked adopts it at once. Meanwhile new requests are refused with ErrStopped; gateways hold them and ask
// again.
func (o *Owner) handOverAll() {
	o.mu.Lock()
	o.stopped = true
	sessions := slices.Collect(maps.Values(o.sessions))
	o.mu.Unlock()
	o.stop()
	o.endings.close() // calls that need no session go to other owners from now on
	drain, cancel := context.WithTimeout(context.Background(), o.config.Drain)
	defer cancel()
	var handing sync.WaitGroup
	for _, s := range sessions {
		handing.Go(func() { o.handOver(drain, s) })
	}
	handing.Go(func() { o.guests.drain(drain) })
	handing.Wait()
	o.closing.Wait()
	o.tasks.Stop()
	o.guests.close()
}

func (o *Owner) leave(lease store.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := o.config.Store.Leave(ctx, lease); err != nil {
		o.log.Warn("leaving the session owners failed; the lease runs out by itself", "error", err)
	}
}

// releaseTime bounds giving a session up, and leaving.
const releaseTime = 5 * time.Second

// handOver gives a session up once its calls have ended or drain has.
func (o *Owner) handOver(drain context.Context, s *session) {
	s.settle(drain)
	// While their answers can be logged. Calls that can be repeated go on with the session.
	ending, cancel := context.WithTimeout(context.Background(), releaseTime)
	s.endCalls(ending)
	cancel()
	s.fallen()
	s.hearNoMore()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	o.releasing <- struct{}{}
	err := o.config.Store.Release(ctx, s.record.ID, o.config.Node.Name, s.epoch)
	<-o.releasing
	if err != nil && !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrNotFound) {
		o.log.Warn("handing over a session failed; it is adopted when the lease runs out", "session", s.record.ID, "error", err)
	}
	o.let(s)
	s.cancel(errMoved)
	s.close()
}

// endings numbers the sessions that ended or moved or whose facts changed, and tells those who watch.
type endings struct {
	mu       sync.Mutex
	number   uint64
	closed   bool
	watchers map[chan Ending]struct{}
}

// Ending is one session that ended or moved; without an ID it only tells the mark.
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

// Watch passes the endings of sessions to send, until ctx ends or it lags too far. The present mark comes first, and
// again five times in the time of a lease, for whoever watches to know that this process is there.
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
	here := time.NewTicker(o.config.Lease / 5)
	defer here.Stop()
	for {
		select {
		case <-here.C:
			if err := send(Ending{Mark: present}); err != nil {
				return err
			}
		case ending, ok := <-w:
			if !ok {
				return ErrStopped
			}
			present = ending.Mark
			if err := send(ending); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
