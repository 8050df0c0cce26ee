package owner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/tasks"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/trace"
	"erlmcp.dev/shared/upstream"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// Owner is one process that owns sessions. It is safe for concurrent use.
type Owner struct {
	config Config
	log    *slog.Logger
	guests *guests
	tasks  *tasks.Keeper

	mu       sync.Mutex
	sessions map[string]*session
	adopting map[string]*adoption // by session
	away     map[string]time.Time // sessions that were drained, until when others may adopt them first
	stopped  bool
	closing  sync.WaitGroup // sessions that moved away, and adoptions
	telling  chan struct{}  // holds a place for each session that is being told what changed

	releasing chan struct{}   // holds a place for each session that is being released
	adopts    chan struct{}   // holds a place for each session that is being adopted
	life      context.Context // ends when all is handed over
	stop      context.CancelFunc
	silent    atomic.Bool // the store did not answer a write, nor a beat since

	endings endings
}

// Config is what an Owner needs.
type Config struct {
	// Node is this process; its address is where gateways reach its gRPC services.
	Node store.Node
	// Store keeps what must survive this process.
	Store store.Store
	// Shared says that other processes have the same Store, so that sessions go on when this one ends, and with them
	// their conversations with servers.
	Shared bool
	// Catalog is the copy of the registry's catalogue.
	Catalog interface{ Current() *catalog.Catalog }
	// Ready is not nil as long as the catalogue is not there yet: this process takes no sessions and calls then.
	// Optional.
	Ready func() error
	// Opener opens conversations with servers.
	Opener Opener
	// ListChanged is told of a server that says that its lists changed. Optional; must not block.
	ListChanged func(server string)
	// Created and Ended count sessions that clients opened here, and those that ended here for good. Optional.
	Created, Ended func()
	// Tell is told what became of sessions here: their ids, principals, and why they were closed. Optional; must not
	// block.
	Tell func(*metricsv1.SessionEvent)
	// Lease is how long a silent owner keeps its sessions; 5 s when 0. It beats three times as often.
	Lease time.Duration
	// Drain is how long calls may go on once the process stops, before their sessions are handed over; 10 s when 0.
	Drain time.Duration
	// IdleTime is how long an unused session lives; 30 minutes when 0.
	IdleTime time.Duration
	// InputWait is how long a call waits for its modern client's input before it is cancelled; 10 minutes when 0.
	InputWait time.Duration
	// MaxAge is how long a session lives at most, used or not; for ever when 0. Calls under way then have the time that
	// calls have by default.
	MaxAge time.Duration
	// MaxSessions is how many sessions this process holds; 50,000 when 0.
	MaxSessions int
	// PromoteAfter is how long a call takes at least that becomes a task, where its server's declaration says nothing;
	// never when 0.
	PromoteAfter time.Duration
	// Tracer traces calls; nil traces none.
	Tracer *trace.Tracer
	// KeepTasks is how long the outcome of a task is kept, beyond the longest time that its call may take; 1 hour
	// when 0.
	KeepTasks time.Duration
	Log       *slog.Logger
}

// Errors of Owner's methods.
var (
	// ErrNotFound: no such session.
	ErrNotFound = errors.New("session not found")
	// ErrFull: a limit on sessions is reached.
	ErrFull = errors.New("no more sessions can be opened; close some or try again later")
	// ErrBusy: the same is being done often enough already.
	ErrBusy = errors.New("this is under way already; try again shortly")
	// ErrStopped: this owner hands its sessions over.
	ErrStopped = errors.New("this owner is stopping")
	// ErrHandedOver: the session was handed over while the request was under way; its next owner knows what became of it.
	ErrHandedOver = errors.New("the session was handed over while the request was under way")
	// ErrStore: the store of sessions did not answer; nothing was done with the request. The session's owner, who has it
	// in memory, needs no store to say so.
	ErrStore = errors.New("the session store does not answer")
	// ErrNotReady: this owner does not know yet which servers there are.
	ErrNotReady = errors.New("this owner is starting")
)

// errMoved ends what a session does here: it goes on elsewhere, with its calls.
var errMoved = fmt.Errorf("%w: %w", ErrStopped, upstream.ErrLeft)

// MovedError says that another process owns the session.
type MovedError struct{ Facts Facts }

// Error implements error.
func (e *MovedError) Error() string { return "the session is owned by " + e.Facts.Owner.Name }

// Facts are what a gateway needs to know of a session.
type Facts struct {
	Record store.Record
	Owner  store.Node
	Epoch  uint64
	// Mark is the number of the newest ending when the facts were read.
	Mark uint64
}

// New makes an Owner; Run keeps its leases.
func New(config Config) *Owner {
	if config.Lease == 0 {
		config.Lease = 5 * time.Second
	}
	if config.Drain == 0 {
		config.Drain = 10 * time.Second
	}
	if config.IdleTime == 0 {
		config.IdleTime = 30 * time.Minute
	}
	if config.MaxSessions == 0 {
		config.MaxSessions = 50_000
	}
	if config.InputWait == 0 {
		config.InputWait = 10 * time.Minute
	}
	if config.KeepTasks == 0 {
		config.KeepTasks = time.Hour
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Ready == nil {
		config.Ready = func() error { return nil }
	}
	if config.ListChanged == nil {
		config.ListChanged = func(string) {}
	}
	if config.Created == nil {
		config.Created = func() {}
	}
	if config.Ended == nil {
		config.Ended = func() {}
	}
	if config.Tell == nil {
		config.Tell = func(*metricsv1.SessionEvent) {}
	}
	o := &Owner{config: config, log: config.Log, sessions: map[string]*session{}, adopting: map[string]*adoption{}}
	o.telling, o.releasing, o.adopts = make(chan struct{}, maxTelling), make(chan struct{}, maxTelling), make(chan struct{}, maxAdopts)
	o.life, o.stop = context.WithCancel(context.Background())
	o.guests = newGuests(o)
	o.tasks = tasks.New(tasks.Config{Node: config.Node.Name, Store: config.Store, Repeat: o.repeat, Log: config.Log})
	return o
}

// Open opens a session that this process owns: ErrFull or ErrStopped.
func (o *Owner) Open(ctx context.Context, record store.Record) (Facts, error) {
	record.ID = uuid.NewString()
	o.mu.Lock()
	full, stopped := len(o.sessions) >= o.config.MaxSessions, o.stopped
	o.mu.Unlock()
	switch {
	case stopped:
		return Facts{}, ErrStopped
	case o.config.Ready() != nil:
		return Facts{}, ErrNotReady
	case full:
		return Facts{}, ErrFull
	}
	err := o.config.Store.Create(ctx, o.config.Node.Name, record)
	if errors.Is(err, store.ErrLimit) {
		return Facts{}, fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return Facts{}, fmt.Errorf("storing a new session: %w: %w", ErrStore, err)
	}
	record.CreatedAt = time.Now()
	s := newSession(o, record, 1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return Facts{}, ErrStopped
	}
	o.sessions[record.ID] = s
	o.config.Created()
	o.tell(s, metricsv1.SessionEvent_KIND_OPENED, "")
	return o.facts(s), nil
}

func (o *Owner) facts(s *session) Facts {
	record, c := s.record, s.client.Load()
	record.Version, record.Capabilities, record.ClientInfo = c.Version, c.Capabilities, c.Info
	return Facts{Record: record, Owner: o.config.Node, Epoch: s.epoch, Mark: o.endings.mark()}
}

// Locate says who owns a session: this process, another one that lives, or this process from now on. An owner that
// the caller found unreachable is looked at more closely. ErrNotFound.
func (o *Owner) Locate(ctx context.Context, id, unreachable string) (Facts, error) {
	s, err := o.session(ctx, id)
	var moved *MovedError
	if errors.As(err, &moved) && unreachable != "" && moved.Facts.Owner.Address == unreachable && o.buried(ctx, id, unreachable) {
		s, err = o.session(ctx, id)
	}
	if errors.As(err, &moved) {
		return moved.Facts, nil
	}
	if err != nil {
		return Facts{}, err
	}
	s.touch()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.facts(s), nil
}

// Used says that sessions are used for what needs no owner. Those that are not this process's are passed over.
func (o *Owner) Used(ids []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		if s := o.sessions[id]; s != nil {
			s.touch()
		}
	}
}

// probeTime bounds the look at an owner that is said to be unreachable.
const probeTime = 500 * time.Millisecond

// buried ends the lease of a session's owner when its address refuses connections: the process is gone, and nobody
// needs to wait until the lease runs out. A mistake does no harm: the owner's writes are fenced once another one has
// its sessions, and it lets them go.
func (o *Owner) buried(ctx context.Context, id, address string) bool {
	// The lease is read before the look: a process that came back meanwhile has another one.
	held, err := o.config.Store.Get(ctx, id)
	if err != nil || !held.Owner.Alive || held.Owner.Address != address {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	lease := store.Lease{Node: store.Node{Name: held.Owner.Node, Address: address}, ID: held.Owner.Lease}
	if err := o.config.Store.Leave(ctx, lease); err != nil {
		return false
	}
	o.log.WarnContext(ctx, "an owner is gone: its address refuses connections; its lease was ended", "owner", held.Owner.Node, "address", address)
	return true
}

// Asked is a request of a session's client.
type Asked struct {
	Message *jsonrpc.Message
	// Server is where it goes; empty for what the session itself answers.
	Server string
	Kind   StreamKind
	// Again: it was sent to an owner before, which is gone.
	Again bool
	trace trace.Origin
}

// Request carries out a request of a session's client.
func (o *Owner) Request(ctx context.Context, id string, asked Asked, send func(Event) error) error {
	s, err := o.session(ctx, id)
	if err != nil {
		return err
	}
	asked.trace = trace.OriginOf(ctx)
	return s.request(ctx, asked, send)
}

// Deliver takes a notification or response of a session's client. A response was handed on when it returns; ErrStopped
// where it must be brought to the session's next owner.
func (o *Owner) Deliver(ctx context.Context, id string, m *jsonrpc.Message) error {
	s, err := o.session(ctx, id)
	if err != nil {
		return err
	}
	return s.deliver(ctx, m)
}

// Listen passes on a session's standing stream or the rest of one of its streams: ErrGone, ErrEventID, ErrDisplaced, and
// ErrStopped where the session lives on elsewhere. It returns nil once the stream is over or its reader left.
func (o *Owner) Listen(ctx context.Context, id string, to Listening, send func(Event) error) error {
	s, err := o.session(ctx, id)
	if err != nil {
		return err
	}
	return s.listen(ctx, to, send)
}

// Leave ends the Listen of a reader in good order: what it was passed counts as read, and what was not is the next one's.
// Another reader's goes on. ErrStopped where the session is not this process's any more.
func (o *Owner) Leave(id, reader string) error {
	o.mu.Lock()
	s := o.sessions[id]
	o.mu.Unlock()
	if s == nil {
		return ErrStopped
	}
	s.standing.leave(reader)
	return nil
}

// Close ends a session; with unlessHeard not one whose standing stream is being read.
func (o *Owner) Close(ctx context.Context, id string, unlessHeard bool) error {
	reason := "closed"
	if unlessHeard {
		reason = "its client left"
	}
	return o.end(ctx, id, unlessHeard, reason)
}

// tell reports what became of a session.
func (o *Owner) tell(s *session, kind metricsv1.SessionEvent_Kind, reason string) {
	o.config.Tell(&metricsv1.SessionEvent{SessionId: s.record.ID, Principal: s.record.Principal, Kind: kind, Reason: reason})
}

func (o *Owner) end(ctx context.Context, id string, unlessHeard bool, reason string) error {
	for {
		s, err := o.session(ctx, id)
		if err != nil {
			return err
		}
		if unlessHeard && s.standing.reading() {
			return nil
		}
		err = o.config.Store.Delete(ctx, id, o.config.Node.Name, s.epoch)
		switch {
		case errors.Is(err, store.ErrFenced): // it lives on elsewhere
			o.moved(s)
			continue
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("deleting a session: %w", err)
		}
		if o.let(s) {
			o.config.Ended()
			o.tell(s, metricsv1.SessionEvent_KIND_CLOSED, reason)
		}
		s.close()
		return nil
	}
}

// let takes a session from this process and tells the gateways. It is false where that was done before.
func (o *Owner) let(s *session) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.letHeld(s)
}

// letHeld is let with mu held.
func (o *Owner) letHeld(s *session) bool {
	if o.sessions[s.record.ID] != s {
		return false
	}
	delete(o.sessions, s.record.ID)
	o.endings.add(s.record.ID)
	return true
}

// moved drops a session that another process adopted: the store refused our epoch.
func (o *Owner) moved(s *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.letHeld(s) {
		return
	}
	o.log.Warn("a session was adopted by another owner", "session", s.record.ID, "epoch", s.epoch)
	s.cancel(errMoved)
	if !o.stopped { // else handOverAll closes it
		o.closing.Go(s.close) // not waited for here: one of its own calls may have brought us here
	}
}

// Sessions is how many sessions this process owns.
func (o *Owner) Sessions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sessions)
}

// sessionBytes is a guess at what a session takes that does nothing.
const sessionBytes = 4 << 10

// Bytes is about how much memory the sessions of this process take, with the messages that wait in them.
func (o *Owner) Bytes() (n int) {
	for _, s := range o.all() {
		n += sessionBytes + s.standing.size()
		s.mu.Lock()
		for _, st := range s.streams {
			n += st.size()
		}
		s.mu.Unlock()
	}
	return n
}

// Upstreams names the servers that a session of this process holds a conversation with.
func (o *Owner) Upstreams(id string) []string {
	o.mu.Lock()
	s := o.sessions[id]
	o.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.upstreams()
}

func (o *Owner) listChanged(server string) { o.config.ListChanged(server) }

// all returns the sessions of this process.
func (o *Owner) all() []*session {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.sessions))
}
