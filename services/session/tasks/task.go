package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
)

// Task is a task that runs in this process. Its changes are made one after the other, and each is in the store
// before anyone sees it.
type Task struct {
	// ID is what the store knows it by.
	ID         string
	server     string
	epoch      uint64
	repeatable bool
	keeper     *Keeper

	writing chan struct{} // held by the one who changes the state
	state   state         // under writing

	mu      sync.Mutex
	call    Call
	saved   json.RawMessage // the state, as it was kept last
	gone    bool            // another owner has it, or nobody
	changed chan struct{}   // closed and replaced when saved or gone change
}

func newTask(k *Keeper, id, server string, epoch uint64, s state) *Task {
	return &Task{
		ID: id, server: server, epoch: epoch, keeper: k,
		writing: make(chan struct{}, 1), state: s, saved: s.encode(), changed: make(chan struct{}),
	}
}

// Epoch numbers the task's owners, from 1.
func (t *Task) Epoch() uint64 { return t.epoch }

// State is the task as it was kept last, as JSON.
func (t *Task) State() json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.saved
}

// behind says which call an adopted task has.
func (t *Task) behind(call Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.call = call
}

func (t *Task) behindIt() Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.call
}

func (t *Task) look() (saved json.RawMessage, changed <-chan struct{}, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.saved, t.changed, t.gone
}

// Refresh keeps what the call wants of its client now.
func (t *Task) Refresh(ctx context.Context) error {
	call := t.behindIt()
	if call == nil {
		return nil // still being adopted, which ends with a Refresh
	}
	return t.change(ctx, func(s *state) {
		s.Status, s.InputRequests = Working, call.Inputs()
		if s.InputRequests != nil {
			s.Status = InputRequired
		}
	})
}

// keepFor is how long it is tried to keep the end of a task while the store can't be reached.
const keepFor = 10 * time.Minute

// Finish ends the task with its call's answer, unless it has ended. It waits for the store, since nobody but this
// process knows the answer.
func (t *Task) Finish(reply upstream.Reply) {
	ctx, cancel := context.WithTimeout(context.Background(), keepFor)
	defer cancel()
	err := t.retry(ctx, func() error { return t.change(ctx, func(s *state) { s.end(reply) }) })
	if errors.Is(err, store.ErrTooLarge) {
		tooLarge := jsonrpc.Errorf(jsonrpc.CodeInternal, "the call to server %q was carried out, but its result is too large to be kept in a task", t.server)
		err = t.retry(ctx, func() error {
			return t.change(ctx, func(s *state) {
				s.Result = nil
				s.end(upstream.Reply{Error: tooLarge.JSON()})
			})
		})
	}
	if err != nil && !final(err) {
		t.keeper.config.Log.Error("the end of a task could not be kept; its client will be told that the outcome is unknown", "task", t.ID, "error", err)
	}
	t.leave()
}

// retry does something until the store takes it or says why not.
func (t *Task) retry(ctx context.Context, do func() error) error {
	wait := 100 * time.Millisecond
	for {
		err := do()
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-t.keeper.stopping.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// final reports whether trying again changes nothing.
func final(err error) bool {
	return errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrTooLarge)
}

// Leave says that this process stops: a task that may be carried out again is left to the next owner, and any other
// ends with its call's answer.
func (t *Task) Leave(ctx context.Context, reply upstream.Reply) {
	if !t.repeatable {
		t.Finish(reply)
		return
	}
	if err := t.keeper.config.Store.ReleaseTask(ctx, t.ID, t.keeper.config.Node, t.epoch); err != nil && !final(err) {
		t.keeper.config.Log.WarnContext(ctx, "handing over a task failed; it is adopted when the lease runs out", "task", t.ID, "error", err)
	}
	t.leave()
}

// Discard takes a task back that nobody was told of.
func (t *Task) Discard(ctx context.Context) {
	if err := t.keeper.config.Store.DeleteTask(ctx, t.ID, t.keeper.config.Node, t.epoch); err != nil && !final(err) {
		t.keeper.config.Log.WarnContext(ctx, "taking back a task failed; it counts until it expires", "task", t.ID, "error", err)
	}
	t.leave()
}

// leave takes the task from this process. Who watches it looks for it anew, unless it has ended.
func (t *Task) leave() {
	t.keeper.remove(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = !ended(statusOf(t.saved))
	close(t.changed)
	t.changed = make(chan struct{})
}

// change makes a change and keeps it; one that makes no difference costs nothing. A task that has ended stays as it
// is. The errors are the store's; with one of them nothing has changed.
func (t *Task) change(ctx context.Context, amend func(*state)) error {
	select {
	case t.writing <- struct{}{}:
		defer func() { <-t.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if ended(t.state.Status) {
		return nil
	}
	next := t.state
	amend(&next)
	if next.Status == t.state.Status && next.StatusMessage == t.state.StatusMessage && next.Meta == t.state.Meta && string(next.InputRequests) == string(t.state.InputRequests) {
		return nil
	}
	next.LastUpdatedAt = time.Now().UTC()
	saved := next.encode()
	err := t.keeper.config.Store.SaveTask(ctx, t.ID, t.keeper.config.Node, t.epoch, saved)
	if errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrNotFound) {
		t.lose(err)
	}
	if err != nil {
		return err
	}
	t.state = next
	t.mu.Lock()
	defer t.mu.Unlock()
	t.saved = saved
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// lose drops a task that another owner has or whose time is over: its call is of no use to anyone.
func (t *Task) lose(err error) {
	t.keeper.config.Log.Warn("a task is no longer this owner's", "task", t.ID, "epoch", t.epoch, "error", err)
	t.leave()
	if call := t.behindIt(); call != nil {
		call.Cancel()
	}
}
