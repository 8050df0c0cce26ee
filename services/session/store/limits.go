package store

import (
	"fmt"
	"time"
)

// Limits bound what a store keeps. A zero field has the default; all nodes of a cluster should have the same.
type Limits struct {
	// IdleTTL is how long a session lives without use; 30 minutes.
	IdleTTL time.Duration
	// Sessions is the most sessions in all; 100,000.
	Sessions int
	// PrincipalSessions is the most sessions of one principal; 10,000. Where there is no authentication all
	// sessions belong to one.
	PrincipalSessions int

	// StateValues is the most named values of a session; 1,100: one for each call under way, and some more.
	StateValues int
	// StateBytes is the most bytes of all names and values of a session; 256 KiB.
	StateBytes int

	// Events is the most events kept for a session, closings included; 1,000.
	Events int
	// EventBytes is the most bytes of messages kept for a session; 4 MiB.
	EventBytes int
	// EventAge is how long an event is kept at least as far as the other bounds let it; older ones go when the
	// session appends. 10 minutes.
	EventAge time.Duration
	// TrimmedStreams is how many streams are remembered that have lost all their events; 256. Of a forgotten one
	// a reader is told ErrGone where it might have missed something.
	TrimmedStreams int

	// ResultTTL is how long the result of a call under a key is kept; 10 minutes.
	ResultTTL time.Duration
	// ResultLease is how long one who carries such a call out may be silent; 10 s.
	ResultLease time.Duration
	// ResultBytes is the most bytes of one such result; 256 KiB.
	ResultBytes int
	// PrincipalResults is the most results kept for a principal; 1,000.
	PrincipalResults int

	// Tasks is the most tasks in all; 10,000.
	Tasks int
	// PrincipalTasks is the most tasks of one principal; 1,000.
	PrincipalTasks int
	// TaskBytes is the most bytes of a task's spec and state together; 1 MiB.
	TaskBytes int
}

// WithDefaults fills the fields that are zero.
func (l Limits) WithDefaults() Limits {
	l.IdleTTL = or(l.IdleTTL, 30*time.Minute)
	l.Sessions = or(l.Sessions, 100_000)
	l.PrincipalSessions = or(l.PrincipalSessions, 10_000)
	l.StateValues = or(l.StateValues, 1100)
	l.StateBytes = or(l.StateBytes, 256<<10)
	l.Events = or(l.Events, 1000)
	l.EventBytes = or(l.EventBytes, 4<<20)
	l.EventAge = or(l.EventAge, 10*time.Minute)
	l.TrimmedStreams = or(l.TrimmedStreams, 256)
	l.ResultTTL = or(l.ResultTTL, 10*time.Minute)
	l.ResultLease = or(l.ResultLease, 10*time.Second)
	l.ResultBytes = or(l.ResultBytes, 256<<10)
	l.PrincipalResults = or(l.PrincipalResults, 1000)
	l.Tasks = or(l.Tasks, 10_000)
	l.PrincipalTasks = or(l.PrincipalTasks, 1000)
	l.TaskBytes = or(l.TaskBytes, 1<<20)
	return l
}

func or[T comparable](given, otherwise T) T {
	var zero T
	if given == zero {
		return otherwise
	}
	return given
}

// Most bytes of the names that callers choose.
const (
	maxID        = 64
	maxNode      = 256
	maxPrincipal = 1024
	maxName      = 256
)

// PageSize is the number of entries that a limit argument asks for.
func PageSize(limit int) int {
	switch {
	case limit <= 0:
		return 100
	case limit > 1000:
		return 1000
	}
	return limit
}

// CheckID refuses what can't be a session's id: it becomes part of keys. ErrInvalid.
func CheckID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("session id of %d bytes: %w", len(id), ErrInvalid)
	}
	for _, c := range []byte(id) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("session id with byte %q: %w", c, ErrInvalid)
		}
	}
	return nil
}

// CheckNode refuses a node's name that is empty or too long. ErrInvalid.
func CheckNode(name string) error { return checkName("node", name, maxNode) }

// CheckStream refuses a stream's name that is empty or too long. ErrInvalid.
func CheckStream(name string) error { return checkName("stream", name, maxName) }

func checkName(what, name string, most int) error {
	if name == "" || len(name) > most {
		return fmt.Errorf("%s name of %d bytes, and 1 to %d are allowed: %w", what, len(name), most, ErrInvalid)
	}
	return nil
}

// CheckRecord refuses a record that can't be created. ErrInvalid, ErrTooLarge.
func (l Limits) CheckRecord(record Record) error {
	if err := CheckID(record.ID); err != nil {
		return err
	}
	if err := checkName("principal", record.Principal, maxPrincipal); err != nil {
		return err
	}
	return l.CheckState(record.State)
}

// CheckState refuses names that are none and state that is too large as it stands. ErrInvalid, ErrTooLarge.
func (l Limits) CheckState(state map[string][]byte) error {
	size := 0
	for name, value := range state {
		if err := checkName("state", name, maxName); err != nil {
			return err
		}
		size += len(name) + len(value)
	}
	if len(state) > l.StateValues || size > l.StateBytes {
		return l.StateTooLarge(len(state), size)
	}
	return nil
}

// StateTooLarge is the ErrTooLarge for a state of so many values and bytes.
func (l Limits) StateTooLarge(values, size int) error {
	return fmt.Errorf("%d values of %d bytes, and %d of %d are allowed: %w", values, size, l.StateValues, l.StateBytes, ErrTooLarge)
}

// Check refuses a key that no store takes. ErrInvalid.
func (k ResultKey) Check() error {
	if err := checkName("principal", k.Principal, maxPrincipal); err != nil {
		return err
	}
	return checkName("result", k.Key, maxName)
}

// CheckTask refuses a task that can't be created. ErrInvalid, ErrTooLarge.
func (l Limits) CheckTask(task Task, ttl time.Duration) error {
	if err := CheckID(task.ID); err != nil {
		return err
	}
	if err := checkName("principal", task.Principal, maxPrincipal); err != nil {
		return err
	}
	if ttl < time.Millisecond {
		return fmt.Errorf("a task that lives for %v: %w", ttl, ErrInvalid)
	}
	return l.CheckTaskSize(len(task.Spec) + len(task.State))
}

// CheckTaskSize refuses a task of too many bytes. ErrTooLarge.
func (l Limits) CheckTaskSize(size int) error {
	if size > l.TaskBytes {
		return fmt.Errorf("a task of %d bytes, and %d are allowed: %w", size, l.TaskBytes, ErrTooLarge)
	}
	return nil
}
