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
	"maps"
	"slices"
	"strings"
	"time"
)

// Store is a database of the metrics service.
type Store interface {
	Usage
	Audit
	Sessions
	Nodes
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
	// Close lets go of the database. Calls under way end with an error.
	Close() error
}

// Usage keeps counts of calls.
type Usage interface {
	// AddUsage adds a batch's counts to what is there of their minute, hour and day, unless a batch of the same node
	// and sequence was added before: then it changes nothing and returns false. Rows of one batch may be about the
	// same thing.
	AddUsage(ctx context.Context, b Batch) (added bool, err error)
	// SumUsage passes on the sums of counts in steps that start within [q.Since, q.Until), in the order asked for;
	// what ties is ordered by its dimensions, so that the same query of the same counts gives the same rows. It ends
	// with the first error of each.
	SumUsage(ctx context.Context, q UsageQuery, each func(Row) error) error
	// DropUsage forgets the counts of steps that start before t.
	DropUsage(ctx context.Context, step Step, before time.Time) error
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
	// DropEvents forgets the events of before t.
	DropEvents(ctx context.Context, before time.Time) error
}

// Sessions keeps what became of sessions.
type Sessions interface {
	// AddSessionEvents keeps events. One whose id is there already changes nothing.
	AddSessionEvents(ctx context.Context, events []SessionEvent) error
	// SessionEvents returns events as asked, newest first.
	SessionEvents(ctx context.Context, q SessionQuery) ([]SessionEvent, error)
	// DropSessionEvents forgets the events of before t.
	DropSessionEvents(ctx context.Context, before time.Time) error
}

// SessionEvent is something that became of a session.
type SessionEvent struct {
	// ID is a UUID in its usual form, in lower case.
	ID                       string
	At                       time.Time
	Node, Session, Principal string
	// Kind is a number of erlmcp.metrics.v1.SessionEvent.Kind.
	Kind   int16
	Reason string
}

// SessionQuery asks for events within [Since, Until).
type SessionQuery struct {
	Since, Until time.Time
	// Principal and Session, when not empty, leave all others out.
	Principal, Session string
	// Limit of events; at least 1.
	Limit int
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
	// Start of the minute, hour or day.
	Start                           time.Time
	Principal, Server, Method, Name string
	// Tenant is the principal's, where the row tells of one principal or tenant; empty for none. A principal has the
	// last one that it was counted with, for all its calls.
	Tenant        string
	Calls, Errors int64
	// Micros is the sum of durations in microseconds.
	Micros int64
	// Took counts calls by how long they took, each bucket of package latency once; calls whose duration is not known
	// are missing.
	Took []Bucket
}

// Bucket counts calls that took about as long.
type Bucket struct {
	Bucket int16
	Calls  int64
}

// Unknown is the bucket of calls that were reported without one.
const Unknown = -1

// Steps calls add with what is to be added of a row to each step, cut by bucket. Errors and durations, which are not
// known by bucket, are with the first.
func (r *Row) Steps(add func(step Step, start time.Time, bucket int16, calls, errors, micros int64) error) error {
	took, known := r.Took, int64(0)
	for _, b := range took {
		known += b.Calls
	}
	if known < r.Calls || len(took) == 0 {
		took = append([]Bucket{{Unknown, r.Calls - known}}, took...)
	}
	for step := range Steps {
		errors, micros := r.Errors, r.Micros
		for _, b := range took {
			if err := add(step, step.Start(r.Start), b.Bucket, b.Calls, errors, micros); err != nil {
				return err
			}
			errors, micros = 0, 0
		}
	}
	return nil
}

// Tenants are the tenants of a batch's principals that have one, sorted by principal. Of a principal with several, the
// last counts.
func (b *Batch) Tenants() (principals, tenants []string) {
	of := map[string]string{}
	for _, r := range b.Rows {
		if r.Tenant != "" {
			of[r.Principal] = r.Tenant
		}
	}
	principals = slices.Sorted(maps.Keys(of))
	for _, p := range principals {
		tenants = append(tenants, of[p])
	}
	return principals, tenants
}

// Step is how long the time is that counts are summed over.
type Step int

// Steps.
const (
	Minute Step = iota
	Hour
	Day
	// Steps is how many there are.
	Steps
)

func (s Step) String() string { return [...]string{"minute", "hour", "day"}[s] }

// Start is when the step begins that t is in, in UTC.
func (s Step) Start(t time.Time) time.Time {
	return t.UTC().Truncate([...]time.Duration{time.Minute, time.Hour, 24 * time.Hour}[s])
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
	Step         Step
	Since, Until time.Time
	// By says which fields are kept apart. The others come back empty.
	By Dimensions
	// Principal, Server, Name and Tenant, when not empty, leave all others out.
	Principal, Server, Name, Tenant string
	Order                           Order
	// Limit of rows; none when 0.
	Limit int
}

// Order of rows, greatest first.
type Order int

// Orders.
const (
	ByCalls Order = iota
	ByErrors
	ByLatency // mean duration
)

// Dimensions by which usage is summed.
type Dimensions struct{ Start, Principal, Server, Method, Name, Tenant bool }

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
