package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/upstream"
)

// Keeper keeps the tasks of one process. It is safe for concurrent use.
type Keeper struct {
	config Config

	stopping context.Context // ends when the process stops
	stop     context.CancelFunc

	mu       sync.Mutex
	tasks    map[string]*Task         // that run here
	adopting map[string]chan struct{} // closed when that is done
}

// Config is what a Keeper needs.
type Config struct {
	// Node is this process.
	Node  string
	Store store.Tasks
	// Repeat carries out the request of an adopted task again, and has the task end with the answer.
	Repeat func(t *Task, principal, server string, request json.RawMessage) (Call, error)
	Log    *slog.Logger
}

// Call is the call behind a task.
type Call interface {
	// Inputs is a JSON object of the requests to the client that wait for an answer; nil for none.
	Inputs() json.RawMessage
	// Answer hands over answers by the keys of those requests; others are passed over.
	Answer(responses json.RawMessage)
	// Cancel ends the call.
	Cancel()
}

// Spec says what a new task is to be.
type Spec struct {
	Principal, Server string
	// Request is the JSON-RPC request where it may be carried out again by another owner; else nil.
	Request json.RawMessage
	// TTL is how long the task lives, from now.
	TTL time.Duration
}

// PollInterval is what clients are told: how long to wait between two looks at a task.
const PollInterval = time.Second

// maxAgain is how often a task's call is carried out again. One that brings its owners down must not go round for ever.
const maxAgain = 2

// Errors of Keeper's methods, beside those of the store.
var (
	// ErrNotFound: there is no such task of that principal.
	ErrNotFound = errors.New("task not found")
	// ErrElsewhere: the task runs at another owner.
	ErrElsewhere = errors.New("the task runs at another owner")
	// ErrBusy: the task has no owner, and this process can't take it now.
	ErrBusy = errors.New("the task can't be taken over here; ask another process, or again")
)

// New makes a Keeper.
func New(config Config) *Keeper {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{config: config, tasks: map[string]*Task{}, adopting: map[string]chan struct{}{}}
	k.stopping, k.stop = context.WithCancel(context.Background())
	return k
}

// Stop says that the process stops, so that nobody waits for a store that can't be reached.
func (k *Keeper) Stop() { k.stop() }

// Create makes a task of a call. Once it returns, every process finds the task. The errors are the store's.
func (k *Keeper) Create(ctx context.Context, s Spec, call Call) (*Task, error) {
	now := time.Now().UTC()
	t := newTask(k, uuid.NewString(), s.Server, 1, state{
		Status: Working, CreatedAt: now, LastUpdatedAt: now,
		TTL: s.TTL.Milliseconds(), PollInterval: PollInterval.Milliseconds(),
	})
	t.call, t.repeatable = call, s.Request != nil
	k.add(t) // first, so that this process never takes it for one that it forgot
	record := store.Task{ID: t.ID, Principal: s.Principal, Spec: spec{s.Server, s.Request}.encode(), State: t.saved}
	if err := k.config.Store.CreateTask(ctx, k.config.Node, record, s.TTL); err != nil {
		k.remove(t)
		return nil, err
	}
	return t, nil
}

func (k *Keeper) add(t *Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tasks[t.ID] = t
}

func (k *Keeper) remove(t *Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tasks[t.ID] == t {
		delete(k.tasks, t.ID)
	}
}

func (k *Keeper) local(id string) *Task {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tasks[id]
}

// Get is a task's state as JSON, and the address of its owner if it runs. ErrNotFound, ErrBusy.
func (k *Keeper) Get(ctx context.Context, principal, id string) (state json.RawMessage, address string, err error) {
	held, _, err := k.find(ctx, principal, id)
	if err != nil {
		return nil, "", err
	}
	if ended(statusOf(held.State)) {
		return held.State, "", nil
	}
	return held.State, held.Owner.Address, nil
}

// find reads a task, and adopts it if nobody has it. The Task is nil unless it runs here.
func (k *Keeper) find(ctx context.Context, principal, id string) (store.HeldTask, *Task, error) {
	for {
		t := k.local(id) // before the store is read: one that ends in between is seen to have ended
		held, err := k.config.Store.GetTask(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && held.Principal != principal:
			return held, nil, ErrNotFound
		case err != nil:
			return held, nil, err
		case ended(statusOf(held.State)):
			return held, nil, nil
		case t != nil && t.epoch == held.Owner.Epoch && !held.Owner.Released:
			return held, t, nil
		case held.Owner.Holds() && held.Owner.Node != k.config.Node:
			return held, nil, nil
		case k.stopping.Err() != nil:
			return held, nil, ErrBusy
		}
		switch err := k.adoptOnce(ctx, held); {
		case errors.Is(err, store.ErrNotFound):
			return held, nil, ErrNotFound
		case err != nil && !errors.Is(err, store.ErrOwned):
			return held, nil, err
		}
	}
}

// adoptOnce adopts a task, or waits until another goroutine of this process has tried to. Where one did since the caller
// looked whether it runs here, there is nothing to do.
func (k *Keeper) adoptOnce(ctx context.Context, seen store.HeldTask) error {
	k.mu.Lock()
	if t := k.tasks[seen.ID]; t != nil && t.epoch == seen.Owner.Epoch && !seen.Owner.Released {
		k.mu.Unlock()
		return nil
	}
	wait := k.adopting[seen.ID]
	if wait == nil {
		done := make(chan struct{})
		k.adopting[seen.ID] = done
		k.mu.Unlock()
		defer func() {
			k.mu.Lock()
			delete(k.adopting, seen.ID)
			k.mu.Unlock()
			close(done)
		}()
		return k.adopt(ctx, seen)
	}
	k.mu.Unlock()
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// adopt takes over a task whose owner is gone: its call is carried out again where that repeats nothing, else the
// task ends.
func (k *Keeper) adopt(ctx context.Context, seen store.HeldTask) error {
	epoch, err := k.config.Store.ClaimTask(ctx, seen.ID, k.config.Node, seen.Owner.Epoch)
	if err != nil {
		return err
	}
	// What the owner before wrote until the claim counts, so it is read again under the new epoch.
	held, err := k.config.Store.GetTask(ctx, seen.ID)
	if err != nil {
		return err
	}
	if ended(statusOf(held.State)) {
		return nil
	}
	var kept spec
	var was state
	if err := errors.Join(json.Unmarshal(held.Spec, &kept), json.Unmarshal(held.State, &was)); err != nil {
		return fmt.Errorf("reading task %s: %w", held.ID, err)
	}
	k.config.Log.InfoContext(ctx, "adopted a task", "task", held.ID, "server", kept.Server, "epoch", epoch, "again", kept.Request != nil)
	t := newTask(k, held.ID, kept.Server, epoch, was)
	if kept.Request == nil || was.Meta.Again >= maxAgain {
		return t.change(ctx, func(s *state) { s.end(lost(kept.Server)) })
	}
	t.repeatable = true
	if err := t.change(ctx, func(s *state) { s.Meta.Again++ }); err != nil {
		return err
	}
	k.add(t)
	call, err := k.config.Repeat(t, held.Principal, kept.Server, kept.Request)
	if err != nil {
		t.Leave(ctx, upstream.Reply{})
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	t.behind(call)
	return t.Refresh(ctx)
}

// Update hands a client's answers to a task. Where the task has ended nothing is done. ErrNotFound, ErrElsewhere, ErrBusy.
func (k *Keeper) Update(ctx context.Context, principal, id string, responses json.RawMessage) error {
	t, err := k.running(ctx, principal, id)
	if t == nil {
		return err
	}
	if call := t.behindIt(); call != nil {
		call.Answer(responses)
	}
	return t.Refresh(ctx)
}

// Cancel ends a task. Where it has ended nothing is done. ErrNotFound, ErrElsewhere, ErrBusy.
func (k *Keeper) Cancel(ctx context.Context, principal, id string) error {
	t, err := k.running(ctx, principal, id)
	if t == nil {
		return err
	}
	err = t.change(ctx, func(s *state) {
		s.Status, s.InputRequests, s.StatusMessage = Cancelled, nil, "cancelled by the client"
	})
	if err != nil {
		return err
	}
	if call := t.behindIt(); call != nil {
		call.Cancel()
	}
	return nil
}

// running is a task that runs here; nil without an error where it has ended.
func (k *Keeper) running(ctx context.Context, principal, id string) (*Task, error) {
	held, t, err := k.find(ctx, principal, id)
	if err == nil && t == nil && !ended(statusOf(held.State)) {
		err = ErrElsewhere
	}
	return t, err
}

// Watch passes a task's state to send now and with each change, until it has ended: ErrNotFound, ErrElsewhere,
// ErrBusy.
func (k *Keeper) Watch(ctx context.Context, principal, id string, send func(state json.RawMessage) error) error {
	held, t, err := k.find(ctx, principal, id)
	switch {
	case err != nil:
		return err
	case t == nil && ended(statusOf(held.State)):
		return send(held.State)
	case t == nil:
		return ErrElsewhere
	}
	for {
		saved, changed, gone := t.look()
		if gone {
			return ErrElsewhere
		}
		if err := send(saved); err != nil || ended(statusOf(saved)) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
