package memory

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"erlmcp.dev/services/session/store"
)

// tasks are the tasks of a store, which guards them.
type tasks struct {
	all map[string]*task
	// ends has all tasks by the time of their end.
	ends taskEnds
	// principals counts tasks; those with none are absent.
	principals map[string]int
}

type task struct {
	store.Task
	owner store.Owner // without what the lease says
	until time.Time
	place int // in ends
}

func newTasks() tasks {
	return tasks{all: make(map[string]*task), principals: make(map[string]int)}
}

// sweep drops the tasks whose time is over.
func (t *tasks) sweep(now time.Time) {
	for len(t.ends) > 0 && !now.Before(t.ends[0].until) {
		t.drop(t.ends[0])
	}
}

func (t *tasks) drop(gone *task) {
	heap.Remove(&t.ends, gone.place)
	delete(t.all, gone.ID)
	if t.principals[gone.Principal]--; t.principals[gone.Principal] == 0 {
		delete(t.principals, gone.Principal)
	}
}

// taskEnds is a heap.
type taskEnds []*task

func (e taskEnds) Len() int           { return len(e) }
func (e taskEnds) Less(i, j int) bool { return e[i].until.Before(e[j].until) }
func (e taskEnds) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].place, e[j].place = i, j
}

// Push implements heap.Interface.
func (e *taskEnds) Push(x any) {
	added := x.(*task)
	added.place = len(*e)
	*e = append(*e, added)
}

// Pop implements heap.Interface.
func (e *taskEnds) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = nil
	*e = (*e)[:len(*e)-1]
	return last
}

// CreateTask implements [store.Tasks].
func (s *Store) CreateTask(_ context.Context, node string, made store.Task, ttl time.Duration) error {
	if err := store.CheckNode(node); err != nil {
		return err
	}
	if err := s.limits.CheckTask(made, ttl); err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	now := s.lock()
	defer s.mu.Unlock()
	t := &s.tasks
	switch {
	case t.all[made.ID] != nil:
		return fmt.Errorf("create task %s: %w", made.ID, store.ErrExists)
	case len(t.all) >= s.limits.Tasks:
		return &store.TaskLimitError{Most: s.limits.Tasks}
	case t.principals[made.Principal] >= s.limits.PrincipalTasks:
		return &store.TaskLimitError{Principal: made.Principal, Most: s.limits.PrincipalTasks}
	}
	added := &task{Task: made, owner: store.Owner{Node: node, Epoch: 1}, until: now.Add(ttl)}
	t.all[made.ID] = added
	t.principals[made.Principal]++
	heap.Push(&t.ends, added)
	return nil
}

// GetTask implements [store.Tasks].
func (s *Store) GetTask(_ context.Context, id string) (store.HeldTask, error) {
	s.lock()
	defer s.mu.Unlock()
	found := s.tasks.all[id]
	if found == nil {
		return store.HeldTask{}, fmt.Errorf("task %s: %w", id, store.ErrNotFound)
	}
	return store.HeldTask{Task: found.Task, Owner: s.present(found.owner)}, nil
}

// fencedTask is the task if node holds it at epoch. The caller holds the lock.
func (s *Store) fencedTask(id, node string, epoch uint64) (*task, error) {
	found := s.tasks.all[id]
	switch {
	case found == nil:
		return nil, fmt.Errorf("task %s: %w", id, store.ErrNotFound)
	case found.owner != store.Owner{Node: node, Epoch: epoch}:
		return nil, fmt.Errorf("task %s at epoch %d: %w", id, epoch, store.ErrFenced)
	}
	return found, nil
}

// SaveTask implements [store.Tasks].
func (s *Store) SaveTask(_ context.Context, id, node string, epoch uint64, state []byte) error {
	s.lock()
	defer s.mu.Unlock()
	found, err := s.fencedTask(id, node, epoch)
	if err != nil {
		return err
	}
	if err := s.limits.CheckTaskSize(len(found.Spec) + len(state)); err != nil {
		return fmt.Errorf("save task %s: %w", id, err)
	}
	found.State = state
	return nil
}

// ClaimTask implements [store.Tasks].
func (s *Store) ClaimTask(_ context.Context, id, node string, seen uint64) (uint64, error) {
	if err := store.CheckNode(node); err != nil {
		return 0, err
	}
	s.lock()
	defer s.mu.Unlock()
	found := s.tasks.all[id]
	if found == nil {
		return 0, fmt.Errorf("claim task %s: %w", id, store.ErrNotFound)
	}
	owner := s.present(found.owner)
	if owner.Epoch != seen || owner.Holds() && owner.Node != node {
		return 0, fmt.Errorf("claim task %s: %w", id, &store.OwnedError{Owner: owner})
	}
	found.owner = store.Owner{Node: node, Epoch: owner.Epoch + 1}
	return found.owner.Epoch, nil
}

// ReleaseTask implements [store.Tasks].
func (s *Store) ReleaseTask(_ context.Context, id, node string, epoch uint64) error {
	s.lock()
	defer s.mu.Unlock()
	found := s.tasks.all[id]
	switch {
	case found == nil:
		return fmt.Errorf("release task %s: %w", id, store.ErrNotFound)
	case found.owner.Node != node || found.owner.Epoch != epoch:
		return fmt.Errorf("release task %s at epoch %d: %w", id, epoch, store.ErrFenced)
	}
	found.owner.Released = true
	return nil
}

// DeleteTask implements [store.Tasks].
func (s *Store) DeleteTask(_ context.Context, id, node string, epoch uint64) error {
	s.lock()
	defer s.mu.Unlock()
	found, err := s.fencedTask(id, node, epoch)
	if err != nil {
		return err
	}
	s.tasks.drop(found)
	return nil
}
