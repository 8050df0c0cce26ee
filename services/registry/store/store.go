// Package store says what the registry keeps, and where: servers with what they offer, views, API keys, and the
// version of the catalogue that these make. It must not know gRPC, nor how servers are asked. [Store] is all of it;
// packages sqlite and postgres implement it, and storetest is the suite that every implementation passes.
//
// Strings are valid UTF-8 without NUL. Times are exact to the microsecond, and come back in UTC. Every method is safe
// for concurrent use, also from several processes at the same database, and does all or nothing. Messages that are
// passed in are not kept, and those that come out are the caller's.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Store is what the registry service needs.
type Store interface {
	Reader
	Writer
	Follower
	Lease
	// Ping returns an error where the database does not answer.
	Ping(ctx context.Context) error
	// Close ends all connections. Nothing may be called after it.
	Close() error
}

// Reader reads single records. On a [Store] each method sees what is committed, in a [Tx] also what the transaction did.
type Reader interface {
	// Server returns a server, or ErrNotFound.
	Server(ctx context.Context, name string) (*Server, error)
	// Servers returns all servers by name.
	Servers(ctx context.Context) ([]*Server, error)
	// View returns a view, or ErrNotFound.
	View(ctx context.Context, name string) (*registryv1.View, error)
	// Views returns all views by name.
	Views(ctx context.Context) ([]*registryv1.View, error)
	// Keys returns all API keys, newest first.
	Keys(ctx context.Context) ([]*registryv1.KeyRecord, error)
	// Names returns the names of all records of a kind, for keys their ids, in order.
	Names(ctx context.Context, kind Kind) ([]string, error)
}

// Writer changes the catalogue.
type Writer interface {
	// Change calls do with a transaction, commits what it wrote as one new version of the catalogue, and returns that
	// version; where do wrote nothing it is the present one. Where do returns an error nothing is written, and Change
	// returns that error. Once it returned nil the change outlives the process and, on a disk that keeps its word, a
	// loss of power. Changes happen one after the other, over all processes at the database; so do must be short,
	// and must wait for nothing but the transaction. It must not use the Store.
	Change(ctx context.Context, do func(Tx) error) (version uint64, err error)
	// Note keeps when a server was last asked and what came of it, without changing the catalogue. It does nothing
	// where the server is not of that version any more.
	Note(ctx context.Context, name string, version uint64, checkedAt time.Time, message string) error
}

// Tx is a transaction of [Writer.Change]. It serves one goroutine, and ends with the function it was passed to.
type Tx interface {
	Reader
	// PutServer adds or replaces a server and claims the names, its tools' and prompts' in views of several servers,
	// giving up those it had before. It returns a *NameTaken, having done nothing, where another server has one of
	// them. Otherwise it sets s.Version.
	PutServer(ctx context.Context, s *Server, names []Name) error
	// DeleteServer removes a server and its names. ErrNotFound.
	DeleteServer(ctx context.Context, name string) error
	// PutView adds or replaces a view.
	PutView(ctx context.Context, v *registryv1.View) error
	// DeleteView removes a view. ErrNotFound.
	DeleteView(ctx context.Context, name string) error
	// AddKey adds an API key. ErrExists.
	AddKey(ctx context.Context, k *registryv1.KeyRecord) error
	// DeleteKey removes an API key. ErrNotFound.
	DeleteKey(ctx context.Context, id string) error
}

// Follower lets a process follow the catalogue.
type Follower interface {
	// Since returns what changed after a version, up to now, as of one moment; everything, with Changes.Snapshot,
	// where version is 0 (a new store is of version 1), too long ago, or was never reached (the database was put back to an earlier state).
	Since(ctx context.Context, version uint64) (*Changes, error)
	// Listen calls wake soon after the catalogue changed, by whichever process, until ctx ends. wake must not block.
	// An error says that changes may be missed from now on: call Since, and Listen again.
	Listen(ctx context.Context, wake func()) error
}

// Lease makes one of several processes the one that acts.
type Lease interface {
	// HoldLease takes or renews the lease for a time, by the database's clock, and reports whether holder has it. A
	// store that serves a single process always grants it.
	HoldLease(ctx context.Context, holder string, ttl time.Duration) (held bool, err error)
	// DropLease gives the lease up, if holder has it.
	DropLease(ctx context.Context, holder string) error
}

// Server is a declared server and what is known of it.
type Server struct {
	Spec *registryv1.Server
	// Declared in the configuration file, and follows it.
	Declared bool
	State    registryv1.ServerState
	// Message says to humans why the server is not ready.
	Message string
	// Offer is what the catalogue shows of it; nil where nothing is known yet or it is withheld.
	Offer *registryv1.Offer
	// CheckedAt is when it was last asked; zero for never.
	CheckedAt time.Time
	// Version of the catalogue in which it last changed; set by the store.
	Version uint64
}

// Kind of record.
type Kind int16

// Kinds of records. Their numbers are kept.
const (
	KindServer Kind = 1
	KindView   Kind = 2
	KindKey    Kind = 3
)

// NameKind is what a name is the name of.
type NameKind int16

// Kinds of names; the same name may be a tool's and a prompt's. Their numbers are kept.
const (
	Tool   NameKind = 1
	Prompt NameKind = 2
)

// String is the kind in words.
func (k NameKind) String() string {
	switch k {
	case Tool:
		return "tool"
	case Prompt:
		return "prompt"
	}
	return fmt.Sprintf("thing of kind %d", int16(k))
}

// Name is how something that a server offers is called in views of several servers. It is at most [MaxName] bytes long.
type Name struct {
	Kind NameKind
	Name string
}

// MaxName is the longest name in bytes that can be claimed: databases index nothing much longer.
const MaxName = 1024

// Changes lead from one version of the catalogue to a later one.
type Changes struct {
	// Version that they lead to.
	Version uint64
	// Snapshot: this is everything there is, and replaces whatever was known.
	Snapshot bool
	// Servers, Views and Keys that are new or changed since, as they are now.
	Servers []*Server
	Views   []*registryv1.View
	Keys    []*registryv1.KeyRecord
	// Names and ids of those that are gone since.
	RemovedServers, RemovedViews, RemovedKeys []string
}

// Errors that callers decide on, wrapped in what was being done.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is such a record already.
	ErrExists = errors.New("exists already")
)

// NameTaken is an error: another server claimed the name.
type NameTaken struct {
	Name
	// Holder is the other server's name.
	Holder string
}

// Error implements error.
func (e *NameTaken) Error() string {
	return fmt.Sprintf("the %s name %q is taken by server %q", e.Kind, e.Name.Name, e.Holder)
}
