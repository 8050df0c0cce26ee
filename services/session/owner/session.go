package owner

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/trace"
)

// session is a legacy client's session at its owner.
type session struct {
	owner   *Owner
	record  store.Record
	epoch   uint64
	ctx     context.Context // ends with the session; with ErrStopped where it lives on elsewhere
	cancel  context.CancelCauseFunc
	tasks   sync.WaitGroup // calls and conversations
	keeping sync.WaitGroup // what keeps how far servers were heard
	used    atomic.Int64   // Unix nanoseconds

	keptParams atomic.Int64 // bytes of params in the ledger

	standing *stream
	saying   sync.Mutex // held while a message is logged and put on the standing stream
	leaving  sync.Mutex // held while leftAt changes, here and in the store
	leftAt   uint64     // the first number on the standing stream that its reader before has not; 0 while one reads
	client   atomic.Pointer[Client]

	mu       sync.Mutex
	closed   bool
	settled  chan struct{}            // not nil once the session begins no more calls; closed when there are none
	calls    map[string]*call         // by the client's raw request id
	unread   map[string]*call         // whose streams broke, and which may have ended since; by id
	streams  map[string]*stream       // of the calls, by name
	asked    map[string]*question     // by the id of our request to the client
	early    map[string]*question     // of the owner before, that were answered before their calls were taken up
	takingUp int                      // calls of the owner before
	slots    map[string]*slot         // by server
	before   map[string]*Conversation // that the owner before had, by server, until they are taken up
	hearing  bool                     // they are being taken up
	level    string                   // the client's log level; empty: never set
	subs     map[string]*resource     // subscribed resources by URI
	starts   map[string]int           // of programs, by server
	streamNo uint64
	falling  map[*call]struct{} // that ended, and whose rest is on its way to the standing stream
	changed  catalog.Changes    // the client was not told of yet
	telling  bool               // it is being told
}

// call is one request of the client that is being carried out.
type call struct {
	id     json.RawMessage
	server string
	method string
	params json.RawMessage
	stream *stream
	trace  trace.Origin // of the request
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when its answer is on the stream

	repeatable bool // it may be begun twice

	standing  bool          // all of it goes to the standing stream
	fallsBack bool          // its stream falls back to the standing one
	fallen    chan struct{} // not nil once it did, closed when all of it is there; under session.mu
	answered  *Answered     // set before over is closed; nil where its client was not told the answer

	brought chan json.RawMessage // takes the params of a call that was taken up without them; nil for others

	mu       sync.Mutex
	logged   bool // it is in the ledger, and events go to the log from now on
	unlogged bool // events went out before that
	tried    bool // it may be in the ledger
	kept     bool // with its params
	ended    bool // nothing more is put
	at       *place
}

// standingName names the standing stream in event ids.
const standingName = "0"

// Limits of one session.
const (
	maxCalls = 1000 // under way at once
	maxAsked = 100  // requests to the client that wait for an answer
	maxSubs  = 1000 // subscribed resources
)

func newSession(o *Owner, record store.Record, epoch uint64) *session {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &session{
		owner: o, record: record, epoch: epoch, ctx: ctx, cancel: cancel,
		standing: newStream(standingName),
		calls:    map[string]*call{},
		unread:   map[string]*call{},
		streams:  map[string]*stream{},
		asked:    map[string]*question{},
		early:    map[string]*question{},
		slots:    map[string]*slot{},
		before:   map[string]*Conversation{},
		subs:     map[string]*resource{},
		falling:  map[*call]struct{}{},
	}
	s.client.Store(clientOf(record))
	s.restore()
	s.touch()
	return s
}

// Names of the values that a session keeps in its record.
const (
	stateLevel = "level"
	stateSubs  = "subs"
	// stateLeft is the first number on the standing stream that its reader before has not; not there while one reads.
	stateLeft = "left"
	// stateUpstream begins the name of a conversation with a server; the server's name follows.
	stateUpstream = "upstream/"
)

// restore takes up what the owner before wrote.
func (s *session) restore() {
	s.level = string(s.record.State[stateLevel])
	s.starts = begunBefore(s.record)
	s.leftAt, _ = strconv.ParseUint(string(s.record.State[stateLeft]), 10, 64) // written by us, or not there
	var subs map[string]string
	if json.Unmarshal(s.record.State[stateSubs], &subs) == nil {
		for uri, server := range subs {
			s.subs[uri] = &resource{server: server}
		}
	}
	for name, value := range s.record.State {
		var c Conversation
		if server, ok := strings.CutPrefix(name, stateUpstream); ok && json.Unmarshal(value, &c) == nil {
			s.before[server] = &c
		}
	}
}

// save writes a value of the session's record.
func (s *session) save(ctx context.Context, name string, value []byte) {
	s.change(ctx, store.Changes{Set: map[string][]byte{name: value}})
}

// change changes the session's record.
func (s *session) change(ctx context.Context, changes store.Changes) {
	if err := s.try(ctx, changes); err != nil && !errors.Is(err, store.ErrFenced) && ctx.Err() == nil {
		s.owner.log.WarnContext(ctx, "saving a session failed; an adopter would not know the change", "session", s.record.ID, "error", err)
	}
}

// try is change for who knows what to do where that fails.
func (s *session) try(ctx context.Context, changes store.Changes) error {
	err := s.owner.write(ctx, func(ctx context.Context) error {
		return s.owner.config.Store.Save(ctx, s.record.ID, s.owner.config.Node.Name, s.epoch, changes)
	})
	if errors.Is(err, store.ErrFenced) {
		s.owner.moved(s)
	}
	return err
}

func (s *session) touch() { s.used.Store(time.Now().UnixNano()) }

// idle is how long the session was not used; 0 while calls run or someone reads its standing stream.
func (s *session) idle(now time.Time) time.Duration {
	s.mu.Lock()
	busy := len(s.calls) > 0
	s.mu.Unlock()
	if busy || s.standing.reading() {
		s.touch()
		return 0
	}
	return now.Sub(time.Unix(0, s.used.Load()))
}

// outlived reports whether the session is older than maxAge. Calls under way have some time more.
func (s *session) outlived(now time.Time, maxAge time.Duration) bool {
	s.mu.Lock()
	busy := len(s.calls) > 0
	s.mu.Unlock()
	if busy {
		maxAge += DefaultCallTimeout
	}
	return now.Sub(s.record.CreatedAt) > maxAge
}

// endCalls ends the calls that are under way and can be neither repeated nor continued, and waits until they are
// answered.
func (s *session) endCalls(ctx context.Context) {
	s.mu.Lock()
	calls := slices.DeleteFunc(slices.Collect(maps.Values(s.calls)), func(c *call) bool { return c.repeatable || c.continuable() })
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel(ErrStopped)
	}
	for _, c := range calls {
		select {
		case <-c.over:
		case <-ctx.Done():
			return
		}
	}
}

// settle has the session begin no more calls, and waits until there are none or ctx ends.
func (s *session) settle(ctx context.Context) {
	s.mu.Lock()
	settled := make(chan struct{})
	s.settled = settled
	s.settling()
	s.mu.Unlock()
	select {
	case <-settled:
	case <-s.ctx.Done():
	case <-ctx.Done():
	}
}

// fallen waits until what calls left behind is on the standing stream.
func (s *session) fallen() {
	s.mu.Lock()
	falling := slices.Collect(maps.Keys(s.falling))
	s.mu.Unlock()
	for _, c := range falling {
		<-c.fallen
	}
}

// settling tells settle when the last call has ended; mu is held.
func (s *session) settling() {
	if s.settled != nil && len(s.calls) == 0 {
		close(s.settled)
		s.settled = make(chan struct{})
	}
}

// close ends everything that the session holds and waits for it.
func (s *session) close() {
	s.mu.Lock()
	s.closed = true
	slots := make([]*slot, 0, len(s.slots))
	for _, sl := range s.slots {
		slots = append(slots, sl)
	}
	s.mu.Unlock()
	s.cancel(nil)
	moved := s.owner.config.Shared && errors.Is(context.Cause(s.ctx), ErrStopped)
	if moved {
		s.tasks.Wait() // so that servers hear of the calls that nobody goes on with
	}
	for _, sl := range slots {
		if moved {
			sl.leave()
		} else {
			sl.close()
		}
	}
	s.standing.end()
	s.tasks.Wait()
	if !moved {
		s.endBefore()
	}
}

// endBefore ends the conversations of the owner before that were not taken up.
func (s *session) endBefore() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	s.mu.Lock()
	before := slices.Collect(maps.Keys(s.before))
	s.mu.Unlock()
	var ending sync.WaitGroup
	for _, name := range before {
		ending.Go(func() {
			if end, err := s.openEnd(ctx, name); err == nil {
				_ = end.Close()
			}
		})
	}
	ending.Wait()
}

// deliver takes a notification or response of the client.
func (s *session) deliver(ctx context.Context, m *jsonrpc.Message) error {
	s.touch()
	if m.IsResponse() {
		return s.answer(ctx, m)
	}
	switch m.Method {
	case mcp.MethodCancelled:
		id := jsonrpc.Get(m.Params, "requestId")
		s.mu.Lock()
		c := s.calls[string(id)]
		s.mu.Unlock()
		if c != nil {
			c.cancel(errCancelled)
		}
	case mcp.MethodRootsChanged:
		for _, sl := range s.openSlots() {
			if end, ok := sl.current(); ok && !end.Modern {
				_ = end.Notify(ctx, m.Method, m.Params)
			}
		}
	}
	return nil
}

func (s *session) openSlots() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := make([]*slot, 0, len(s.slots))
	for _, sl := range s.slots {
		slots = append(slots, sl)
	}
	return slots
}

// errCancelled: the client cancelled its request, and gets no answer.
var errCancelled = errors.New("cancelled by the client")

// upstreams names the servers that the session holds a conversation with.
func (s *session) upstreams() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, sl := range s.slots {
		if _, ok := sl.current(); ok {
			names = append(names, name)
		}
	}
	return names
}
