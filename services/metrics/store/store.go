// Package store says what the metrics service keeps, and where. It must not know gRPC. The interfaces are small, one
// for each user, and [Store] is all of them; packages sqlite and postgres implement it, and storetest is the suite
// that every implementation passes.
//
// Strings are valid UTF-8 without NUL, as [Text] makes them. Times are exact to the microsecond, and come back in UTC. Every method is safe
// for concurrent use, also from several processes at the same database, and does all or nothing.
package store

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Store is a database of the metrics service.
type Store interface {
	Usage
	Audit
	Nodes
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
	// Close lets go of the database. Calls under way end with an error.
	Close() error
}

// Usage keeps counts of calls.
type Usage interface {
	// AddUsage adds a batch's counts to what is there, unless a batch of the same node and sequence was added
	// before: then it changes nothing and returns false. Rows of one batch may be about the same thing.
	AddUsage(ctx context.Context, b Batch) (added bool, err error)
	// SumUsage sums the counts of minutes that start within [q.Since, q.Until), most calls first; what ties is
	// ordered by its dimensions, so that the same query of the same counts gives the same rows.
	SumUsage(ctx context.Context, q UsageQuery) ([]Row, error)
	// DropUsage forgets the counts of minutes that start before t.
	DropUsage(ctx context.Context, before time.Time) (rows int64, err error)
	// DropBatches forgets that batches were added which came before t. Their counts stay.
	DropBatches(ctx context.Context, before time.Time) (batches int64, err error)
}

// Audit keeps the audit trail.
type Audit interface {
	// AddEvents keeps events. One whose id is there already changes nothing.
	AddEvents(ctx context.Context, events []Event) error
	// Events returns at most limit events, newest first: by time, then by id. With an id in before, only those that
	// come after that event in this order, or [ErrNoEvent] where no event has it.
	Events(ctx context.Context, before string, limit int) ([]Event, error)
}

// Nodes keeps who lives.
type Nodes interface {
	// SeeNode keeps a node under its name, in place of what was there.
	SeeNode(ctx context.Context, n Node) error
	// ForgetNode removes a node. One that started later under the same name stays.
	ForgetNode(ctx context.Context, name string, startedAt time.Time) error
	// NodesSince returns the nodes that were seen at t or later, by name.
	NodesSince(ctx context.Context, t time.Time) ([]Node, error)
	// DropNodes forgets the nodes that were last seen before t.
	DropNodes(ctx context.Context, before time.Time) (nodes int64, err error)
}

// Row counts calls that share everything that is not empty here.
type Row struct {
	// Minute is the minute's start.
	Minute                          time.Time
	Principal, Server, Method, Name string
	Calls, Errors                   int64
	// Micros is the sum of durations in microseconds.
	Micros int64
}

// Batch is what one node counted since its last batch.
type Batch struct {
	// Node and its run, unique to one life of a process; Sequence is unique within.
	Node     string
	Sequence uint64
	// At is when it came.
	At   time.Time
	Rows []Row
}

// UsageQuery asks for sums.
type UsageQuery struct {
	Since, Until time.Time
	// By says which fields are kept apart. The others come back empty.
	By Dimensions
	// Principal and Server, when not empty, leave all others out.
	Principal, Server string
	// Limit of rows; at least 1.
	Limit int
}

// Dimensions by which usage is summed.
type Dimensions struct{ Minute, Principal, Server, Method, Name bool }

// Event is one administrative act, done or refused.
type Event struct {
	// ID is a UUID in its usual form, in lower case.
	ID                                       string
	At                                       time.Time
	Node, Principal, Method, Object, Outcome string
}

// Node is one process of the cluster.
type Node struct {
	// Name is unique.
	Name    string
	Roles   []string
	Version string
	// Address is the host:port of its gRPC services.
	Address   string
	StartedAt time.Time
	// SeenAt is when it was last heard of.
	SeenAt time.Time
}

// Text makes a string fit to be kept: Postgres takes neither NUL nor invalid UTF-8.
func Text(s string) string {
	const unknown = "\uFFFD"
	return strings.ReplaceAll(strings.ToValidUTF8(s, unknown), "\x00", unknown)
}

// ErrNoEvent says that no event has the id.
var ErrNoEvent = errors.New("there is no such audit event")
