package store

import (
	"context"
	"time"
)

// Store is all of it. Implementations are safe for concurrent use by many goroutines, and with Redis by many
// processes. Besides the errors named at each method, all give ctx's error or that of a store out of reach;
// a write that failed so may or may not have been done.
type Store interface {
	Leases
	Sessions
	Events
	Results
	Tasks
	// Ready tells whether the store can be reached.
	Ready(ctx context.Context) error
}

// Leases tell which nodes live.
type Leases interface {
	// Join says that the node lives for ttl from now. An earlier lease of the same name is replaced, for a node
	// that died and came back at once must not wait; its former holder learns it at the next Beat.
	Join(ctx context.Context, node Node, ttl time.Duration) (Lease, error)
	// Beat renews the lease for its TTL. ErrLeaseLost when it ran out or was replaced: other nodes may have
	// claimed the node's sessions, so it must Join again and take none of them for its own unseen.
	Beat(ctx context.Context, lease Lease) error
	// Leave ends the lease at once, and does nothing when it is lost already.
	Leave(ctx context.Context, lease Lease) error
	// Nodes are those that live, by name.
	Nodes(ctx context.Context) ([]Node, error)
}

// Sessions are the records and their owners.
//
// A session that is not created, claimed or touched for Limits.IdleTTL is gone, with its events, and no longer
// counts. Saves and events are no use in this sense: the owner touches.
type Sessions interface {
	// Create makes a session that node owns, at epoch 1. CreatedAt and UsedAt are set by the store.
	// ErrExists, ErrLimit (as a LimitError) beyond the principal's or the total number of sessions,
	// ErrTooLarge, ErrInvalid.
	Create(ctx context.Context, node string, record Record) error
	// Get is one session and its owner. ErrNotFound.
	Get(ctx context.Context, id string) (Session, error)
	// List is the sessions of the whole cluster after a cursor, without their State, in no order that means
	// anything. The first page is that after "", the last gives "" as the next cursor. Pages may hold fewer
	// sessions than limit. A session that exists throughout is on exactly one page. limit is 100 when 0 and
	// at most 1000.
	List(ctx context.Context, cursor string, limit int) (sessions []Session, next string, err error)
	// Save changes the state, all of it or nothing. ErrFenced, ErrNotFound, ErrTooLarge, ErrInvalid.
	Save(ctx context.Context, id, node string, epoch uint64, changes Changes) error
	// Touch says that sessions of this node are in use: sets UsedAt and starts their idle time anew. It tells
	// which of them the node does not own any more, because they are gone or were claimed. With Redis the
	// sessions are touched one by one; an error means that some may not have been.
	Touch(ctx context.Context, node string, holds []Hold) (lost []string, err error)
	// Claim makes node the owner and gives the new epoch. It succeeds only when the epoch still is the one that
	// was seen, and the owner's lease is gone, or the owner released the session, or is node itself (which
	// came back, or fences what it did before). Of many who claim at once exactly one succeeds.
	// ErrNotFound; ErrOwned (as an OwnedError with the present owner). The claim counts as use.
	Claim(ctx context.Context, id, node string, seen uint64) (epoch uint64, err error)
	// Release gives the session up for another node to claim. The node's further writes are fenced. Releasing
	// twice is no error. ErrFenced, ErrNotFound.
	Release(ctx context.Context, id, node string, epoch uint64) error
	// Delete ends the session: record, events and count. ErrFenced, ErrNotFound; with Redis also the latter
	// when an earlier try, whose answer was lost, did it.
	Delete(ctx context.Context, id, node string, epoch uint64) error
}

// Events are a session's logs, one for each of its streams. Streams need not be made: one begins with its first
// event. Limits bound the events of a session, of all its streams together; the oldest go first, in the step
// that appends the one too many.
type Events interface {
	// Append adds messages to a stream, all or none, and gives the sequence number of the first; the others
	// follow without a gap. Numbers grow along a stream, begin above 0 and may have gaps: they are counted for
	// the session. Messages beyond the bounds are numbered and trimmed at once.
	// ErrFenced, ErrNotFound, ErrClosed, ErrInvalid.
	Append(ctx context.Context, id, node string, epoch uint64, stream string, messages ...[]byte) (first uint64, err error)
	// CloseStream says that nothing follows on the stream. What it holds can be read as long as its bounds let
	// it. Closing twice is no error. ErrFenced, ErrNotFound, ErrInvalid.
	CloseStream(ctx context.Context, id, node string, epoch uint64, stream string) error
	// Read is what a stream has after a sequence number, 0 for its beginning. limit is 100 when 0 and at most
	// 1000. ErrNotFound when the session is gone.
	//
	// ErrGone when an event after that number was trimmed, or may have been: of streams whose events are all
	// trimmed only the last Limits.TrimmedStreams are remembered, and once one is forgotten, the beginning of a
	// stream that is new since looks like the return of it. So read a stream whose first number is known after
	// the number before that one, not after 0. A stream that never had an event is empty.
	Read(ctx context.Context, id, stream string, after uint64, limit int) (Page, error)
}

// Results are what calls gave whose clients named them by a key, so that a call that is sent again under its key is not
// carried out again. They belong to a principal and outlive its sessions, but not Limits.ResultTTL.
type Results interface {
	// Reserve takes a principal's key for a call, which digest stands for, and says what is known of it. Of many who
	// reserve at once one is told Reserved: holder then carries the call out, says so by Renew and keeps its answer by
	// Settle. A call whose holder fell silent for Limits.ResultLease is Abandoned; repeatable reserves it anew instead.
	// ErrOtherCall when the key stands for another call, ErrLimit beyond the principal's number of results, ErrInvalid.
	Reserve(ctx context.Context, key ResultKey, digest, holder string, repeatable bool) (Result, error)
	// Renew says that holder still carries the call out. ErrFenced when it is not its any more.
	Renew(ctx context.Context, key ResultKey, holder string) error
	// Settle keeps the call's answer; nil frees the key instead, as if there had been no call. ErrFenced, ErrTooLarge.
	Settle(ctx context.Context, key ResultKey, holder string, answer []byte) error
}

// Tasks are records of calls that go on behind their answer, each with an owner as a session has. A task is gone when
// the time that it was given at its making is over, whatever happens to it before, and no longer counts.
type Tasks interface {
	// CreateTask makes a task that node owns, at epoch 1. Once it returns, every node finds the task. ErrExists,
	// ErrLimit (as a TaskLimitError) beyond the principal's or the total number of tasks, ErrTooLarge, ErrInvalid.
	CreateTask(ctx context.Context, node string, task Task, ttl time.Duration) error
	// GetTask is one task and its owner. ErrNotFound.
	GetTask(ctx context.Context, id string) (HeldTask, error)
	// SaveTask replaces the task's state. ErrFenced, ErrNotFound, ErrTooLarge.
	SaveTask(ctx context.Context, id, node string, epoch uint64, state []byte) error
	// ClaimTask makes node the owner and gives the new epoch, as Claim does of a session. ErrNotFound; ErrOwned
	// (as an OwnedError with the present owner).
	ClaimTask(ctx context.Context, id, node string, seen uint64) (epoch uint64, err error)
	// ReleaseTask gives the task up for another node to claim. Releasing twice is no error. ErrFenced, ErrNotFound.
	ReleaseTask(ctx context.Context, id, node string, epoch uint64) error
	// DeleteTask ends the task's record, and its count. ErrFenced, ErrNotFound; with Redis also the latter when an
	// earlier try, whose answer was lost, did it.
	DeleteTask(ctx context.Context, id, node string, epoch uint64) error
}
