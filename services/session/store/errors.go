package store

import (
	"errors"
	"fmt"
)

// Errors on which callers decide. They come wrapped: use errors.Is.
var (
	ErrNotFound  = errors.New("there is no such session or task, or it has ended")
	ErrExists    = errors.New("the session or task exists already")
	ErrFenced    = errors.New("another owner has the session or task, or it was released: this one must stop")
	ErrOwned     = errors.New("the session or task has an owner")
	ErrLimit     = errors.New("too many sessions or tasks")
	ErrTooLarge  = errors.New("the state is too large")
	ErrGone      = errors.New("events after this one are no longer kept")
	ErrClosed    = errors.New("the stream is closed")
	ErrOtherCall = errors.New("the key stands for another call")
	ErrLeaseLost = errors.New("the node's lease ran out or was replaced: join again")
	// ErrInvalid: an argument is none that a store takes, such as an empty name.
	ErrInvalid = errors.New("invalid argument")
)

// OwnedError tells who has the session that a node tried to claim. It is an [ErrOwned]. Where the Owner does not
// hold the session any more the claim came with an old epoch: try again with the Owner's.
type OwnedError struct {
	Owner Owner
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%v: %s at epoch %d", ErrOwned, e.Owner.Node, e.Owner.Epoch)
}

func (e *OwnedError) Unwrap() error { return ErrOwned }

// LimitError tells which limit was met. It is an [ErrLimit].
type LimitError struct {
	// Principal is the one with too many sessions; empty where it is the total.
	Principal string
	// Most is the limit.
	Most int
}

func (e *LimitError) Error() string {
	if e.Principal != "" {
		return fmt.Sprintf("%v: principal %q has %d; end some, or wait until idle ones expire", ErrLimit, e.Principal, e.Most)
	}
	return fmt.Sprintf("%v: there are %d; end some, or wait until idle ones expire", ErrLimit, e.Most)
}

func (e *LimitError) Unwrap() error { return ErrLimit }

// TaskLimitError tells which limit on tasks was met. It is an [ErrLimit].
type TaskLimitError struct {
	// Principal is the one with too many tasks; empty where it is the total.
	Principal string
	// Most is the limit.
	Most int
}

func (e *TaskLimitError) Error() string {
	if e.Principal != "" {
		return fmt.Sprintf("%v: principal %q has %d tasks, which count until they expire", ErrLimit, e.Principal, e.Most)
	}
	return fmt.Sprintf("%v: there are %d tasks, which count until they expire", ErrLimit, e.Most)
}

func (e *TaskLimitError) Unwrap() error { return ErrLimit }
