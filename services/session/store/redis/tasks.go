package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/redisx"
)

// taskKey is the task's; its expiry is the task's end.
func (s *Store) taskKey(id string) string { return s.prefix + "task:{" + id + "}" }

// taskDirectory are the keys that count tasks.
func (s *Store) taskDirectory(principal string) []string {
	return []string{s.directoryKey("tasks"), s.directoryKey("tasks:" + principal)}
}

func aboutTask(doing, id string, err error) error {
	return fmt.Errorf("%s task %s: %w", doing, id, err)
}

// CreateTask implements [store.Tasks].
func (s *Store) CreateTask(ctx context.Context, node string, task store.Task, ttl time.Duration) error {
	if err := store.CheckNode(node); err != nil {
		return err
	}
	if err := s.limits.CheckTask(task, ttl); err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	answer, err := s.run(ctx, taskReserveScript, s.taskDirectory(task.Principal),
		task.ID, ttl.Milliseconds(), s.limits.Tasks, s.limits.PrincipalTasks)
	if err != nil {
		return aboutTask("create", task.ID, err)
	}
	switch answer.word() {
	case "total":
		return &store.TaskLimitError{Most: s.limits.Tasks}
	case "principal":
		return &store.TaskLimitError{Principal: task.Principal, Most: s.limits.PrincipalTasks}
	}
	_, err = s.run(ctx, taskCreateScript, []string{s.taskKey(task.ID)},
		uuid.NewString(), ttl.Milliseconds(), node, task.Principal, task.Spec, task.State)
	if err != nil {
		// After any other error the task may have been made: the reservation stays until it expires.
		if answer.text(1) == "1" && errors.Is(err, store.ErrExists) {
			s.uncountTask(ctx, task.ID, task.Principal)
		}
		return aboutTask("create", task.ID, err)
	}
	return nil
}

// uncountTask takes a task out of the directory, as far as that can be done now; else it expires there.
func (s *Store) uncountTask(ctx context.Context, id, principal string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = s.run(ctx, dropScript, s.taskDirectory(principal), id)
}

// GetTask implements [store.Tasks].
func (s *Store) GetTask(ctx context.Context, id string) (store.HeldTask, error) {
	if store.CheckID(id) != nil {
		return store.HeldTask{}, about("get task of", id, store.ErrNotFound)
	}
	fields, err := s.client.HGetAll(ctx, s.taskKey(id)).Result()
	if err == nil && len(fields) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.HeldTask{}, aboutTask("get", id, err)
	}
	epoch, _ := strconv.ParseUint(fields["epoch"], 10, 64)
	found := store.HeldTask{
		Task:  store.Task{ID: id, Principal: fields["principal"], Spec: []byte(fields["spec"]), State: []byte(fields["state"])},
		Owner: store.Owner{Node: fields["node"], Epoch: epoch, Released: fields["released"] == "1"},
	}
	if found.Owner, err = s.owned(ctx, found.Owner); err != nil {
		return store.HeldTask{}, aboutTask("get", id, err)
	}
	return found, nil
}

// SaveTask implements [store.Tasks].
func (s *Store) SaveTask(ctx context.Context, id, node string, epoch uint64, state []byte) error {
	answer, err := s.runTask(ctx, "save", taskSaveScript, id, node, decimal(epoch), s.limits.TaskBytes, state)
	if err == nil && answer.word() == "toolarge" {
		err = aboutTask("save", id, s.limits.CheckTaskSize(int(answer.number(1))))
	}
	return err
}

// ClaimTask implements [store.Tasks].
func (s *Store) ClaimTask(ctx context.Context, id, node string, seen uint64) (uint64, error) {
	if err := store.CheckNode(node); err != nil {
		return 0, err
	}
	found, err := s.GetTask(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("claim: %w", err)
	}
	if owner := found.Owner; owner.Epoch != seen || owner.Holds() && owner.Node != node {
		return 0, aboutTask("claim", id, &store.OwnedError{Owner: owner})
	}
	answer, err := s.run(ctx, taskClaimScript, []string{s.taskKey(id)}, node, decimal(seen), uuid.NewString())
	if err != nil {
		return 0, aboutTask("claim", id, err)
	}
	if answer.word() == "moved" {
		if found, err = s.GetTask(ctx, id); err != nil {
			return 0, fmt.Errorf("claim: %w", err)
		}
		return 0, aboutTask("claim", id, &store.OwnedError{Owner: found.Owner})
	}
	return answer.number(1), nil
}

// ReleaseTask implements [store.Tasks].
func (s *Store) ReleaseTask(ctx context.Context, id, node string, epoch uint64) error {
	_, err := s.runTask(ctx, "release", releaseScript, id, node, decimal(epoch))
	return err
}

// DeleteTask implements [store.Tasks].
func (s *Store) DeleteTask(ctx context.Context, id, node string, epoch uint64) error {
	answer, err := s.runTask(ctx, "delete", deleteScript, id, node, decimal(epoch))
	if err == nil {
		s.uncountTask(ctx, id, answer.text(1))
	}
	return err
}

// runTask runs a script on a task's key, if there can be such a task.
func (s *Store) runTask(ctx context.Context, doing string, script *redisx.Script, id string, args ...any) (reply, error) {
	if store.CheckID(id) != nil {
		return nil, about(doing+" task of", id, store.ErrNotFound)
	}
	answer, err := s.run(ctx, script, []string{s.taskKey(id)}, args...)
	if err != nil {
		return nil, aboutTask(doing, id, err)
	}
	return answer, nil
}
