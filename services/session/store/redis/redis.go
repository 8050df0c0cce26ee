// Package redis keeps the live state of sessions in Redis (6.2 or later; single, sentinels or cluster), so that
// it outlives every process of ours. Start at [New], and for what is atomic at the contracts in lua/.
//
// # Slots
//
// All keys of one session have its id as hash tag: its record and its events change in one step. The directory
// (leases, the list of sessions, the counts) has a tag of its own. A change that concerns both is two steps, in
// such an order that a crash between them leaves at worst a count too high until the idle time is over: a
// session is counted before it is created, and deleted before it is no longer counted.
//
// # Lost answers
//
// The client repeats a command whose answer was lost. Scripts that are not the same when run twice know a call
// by a token.
//
// # What Redis itself may lose
//
// A replica that takes over may lack the last writes, as any asynchronous copy; with appendfsync everysec a crash
// may lose a second. Sessions, events, state and claims from that moment are then gone. Set min-replicas-to-write, and
// appendfsync always, where that matters more than speed.
//
// What was lost is not mistaken for what comes after: epochs and numbers of events are never below the server's clock
// in milliseconds, so that they are not given twice. So a node whose claim was lost is fenced like any old owner, and a
// reader who had an event that was lost gets all that follow. This holds as long as the servers' clocks differ by less
// than a failover takes.
package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	client "github.com/redis/go-redis/v9"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/redisx"
)

// Config is what a store needs.
type Config struct {
	// Client is not closed by the store.
	Client client.UniversalClient
	Limits store.Limits
	// Prefix begins all keys; "erlmcp:session:" when empty. It has no braces.
	Prefix string
}

// Store implements [store.Store].
type Store struct {
	client client.UniversalClient
	limits store.Limits
	prefix string
	// calls numbers the appends of this process.
	calls atomic.Uint64
}

var _ store.Store = (*Store)(nil)

// New makes a store. It does not ask whether Redis can be reached: [Store.Ready] does.
func New(config Config) *Store {
	if config.Prefix == "" {
		config.Prefix = "erlmcp:session:"
	}
	return &Store{client: config.Client, limits: config.Limits.WithDefaults(), prefix: config.Prefix}
}

// Ready implements [store.Store].
func (s *Store) Ready(ctx context.Context) error { return redisx.Ping(ctx, s.client) }

// recordKey is the record's; its expiry is the session's end.
func (s *Store) recordKey(id string) string { return s.prefix + "{" + id + "}" }

// sessionKeys are record, log, marks and trimmed streams, the order in which the scripts take them.
func (s *Store) sessionKeys(id string) []string {
	record := s.recordKey(id)
	return []string{record, record + ":log", record + ":marks", record + ":trimmed"}
}

// directoryKey is one of those that tell of all sessions and nodes.
func (s *Store) directoryKey(name string) string { return s.prefix + "{directory}:" + name }

func (s *Store) idsKey() string    { return s.directoryKey("ids") }
func (s *Store) expiryKey() string { return s.directoryKey("expiry") }
func (s *Store) nodesKey() string  { return s.directoryKey("nodes") }

func (s *Store) principalKey(principal string) string {
	return s.directoryKey("principal:" + principal)
}

func (s *Store) leaseKey(node string) string { return s.directoryKey("lease:" + node) }

// run runs a script and turns its words of refusal into errors. Other words are the caller's.
func (s *Store) run(ctx context.Context, script *redisx.Script, keys []string, args ...any) (reply, error) {
	answer, err := asReply(script.Run(ctx, s.client, keys, args...))
	if err != nil {
		return nil, err
	}
	return answer, refusal(answer)
}

// refusal is the error that a script's word stands for.
func refusal(answer reply) error {
	switch answer.word() {
	case "notfound":
		return store.ErrNotFound
	case "fenced":
		return store.ErrFenced
	case "exists":
		return store.ErrExists
	case "gone":
		return store.ErrGone
	case "closed":
		return store.ErrClosed
	case "lost":
		return store.ErrLeaseLost
	}
	return nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// about says what was being done with which session.
func about(doing, id string, err error) error {
	return fmt.Errorf("%s session %s: %w", doing, strings.ToValidUTF8(id, "?"), err)
}
