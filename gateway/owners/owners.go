// Package owners finds the owners of sessions, and remembers them for as long as their owners would say so if
// that changed. It must not know the protocol of MCP.
package owners

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
)

// Owners is the gateway's directory of sessions. It is safe for concurrent use.
type Owners struct {
	config Config
	any    sessionv1.SessionServiceClient

	mu      sync.Mutex
	watches map[string]*watch // by address
	known   map[string]*sessionv1.SessionFacts
	closed  bool
	running sync.WaitGroup
}

// Config is what Owners need.
type Config struct {
	// Any reaches some owner, whichever.
	Any grpc.ClientConnInterface
	// Dial reaches the owner at an address.
	Dial func(address string) (grpc.ClientConnInterface, error)
	// MaxKnown is how many sessions are remembered; 100,000 when 0.
	MaxKnown int
	// Silence is for how long an owner may say nothing before it counts as gone; 3 s when 0. Owners say something
	// every second.
	Silence time.Duration
	Log     *slog.Logger
}

// New makes Owners; Close ends them.
func New(config Config) *Owners {
	if config.MaxKnown == 0 {
		config.MaxKnown = 100_000
	}
	if config.Silence == 0 {
		config.Silence = 3 * time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Owners{
		config:  config,
		any:     sessionv1.NewSessionServiceClient(config.Any),
		watches: map[string]*watch{},
		known:   map[string]*sessionv1.SessionFacts{},
	}
}

// Open implements engine.Owners.
func (o *Owners) Open(ctx context.Context, req *sessionv1.OpenSessionRequest) (*sessionv1.SessionFacts, error) {
	response, err := o.any.OpenSession(ctx, req)
	if err != nil {
		return nil, err
	}
	o.remember(response.GetFacts())
	return response.GetFacts(), nil
}

// Facts implements engine.Owners.
func (o *Owners) Facts(ctx context.Context, sessionID string) (*sessionv1.SessionFacts, error) {
	o.mu.Lock()
	facts := o.known[sessionID]
	if w := o.watches[facts.GetAddress()]; w != nil {
		w.used[sessionID] = struct{}{}
	}
	o.mu.Unlock()
	if facts != nil {
		return facts, nil
	}
	return o.locate(ctx, &sessionv1.LocateSessionRequest{SessionId: sessionID})
}

// FactsAnew implements engine.Owners.
func (o *Owners) FactsAnew(ctx context.Context, sessionID, unreachable string) (*sessionv1.SessionFacts, error) {
	o.Forget(sessionID)
	return o.locate(ctx, &sessionv1.LocateSessionRequest{SessionId: sessionID, Unreachable: unreachable})
}

func (o *Owners) locate(ctx context.Context, req *sessionv1.LocateSessionRequest) (*sessionv1.SessionFacts, error) {
	asking, cancel := context.WithTimeout(ctx, anyTime)
	response, err := o.any.LocateSession(asking, req)
	cancel()
	switch status.Code(err) {
	case codes.Unavailable, codes.FailedPrecondition, codes.DeadlineExceeded:
		// Without their store owners are not ready, and none of them can say who has what it has not itself.
		response, err = o.ask(ctx, req, err)
	}
	if err != nil {
		return nil, err
	}
	facts := response.GetFacts()
	if o.remember(facts) {
		return facts, nil
	}
	// Another owner than the asked one has the session, and only that one can say how new the facts are.
	owner, err := o.Session(facts.GetAddress())
	if err != nil {
		return facts, nil
	}
	if response, err = owner.LocateSession(ctx, req); err != nil {
		return facts, nil
	}
	o.remember(response.GetFacts())
	return response.GetFacts(), nil
}

// anyTime is how long any one owner may take to say who has a session, before all are asked: it may be frozen, or wait
// for a store that is.
const anyTime = time.Second

// ask asks all owners that are known at once, and takes the first answer: who has the session knows it without the
// store, which the others wait for. err is given where none of them knows.
func (o *Owners) ask(ctx context.Context, req *sessionv1.LocateSessionRequest, err error) (*sessionv1.LocateSessionResponse, error) {
	o.mu.Lock()
	var live []string
	for address, w := range o.watches {
		if w.live {
			live = append(live, address)
		}
	}
	o.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *sessionv1.LocateSessionResponse, len(live)) // nil: it does not know
	for _, address := range live {
		go func() {
			owner, err := o.Session(address)
			if err != nil {
				answers <- nil
				return
			}
			response, err := owner.LocateSession(ctx, req)
			if err != nil {
				response = nil
			}
			answers <- response
		}()
	}
	for range live {
		if response := <-answers; response != nil {
			return response, nil
		}
	}
	return nil, err
}

// Forget implements engine.Owners.
func (o *Owners) Forget(sessionID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, sessionID)
}

// Session implements engine.Owners.
func (o *Owners) Session(address string) (sessionv1.SessionServiceClient, error) {
	conn, err := o.config.Dial(address)
	if err != nil {
		return nil, err
	}
	return sessionv1.NewSessionServiceClient(conn), nil
}

// Tasks implements engine.Owners.
func (o *Owners) Tasks(address string) (sessionv1.TaskServiceClient, error) {
	if address == "" {
		return sessionv1.NewTaskServiceClient(o.config.Any), nil
	}
	conn, err := o.config.Dial(address)
	if err != nil {
		return nil, err
	}
	return sessionv1.NewTaskServiceClient(conn), nil
}

// Silent implements engine.Owners.
func (o *Owners) Silent(address string) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return context.Background()
	}
	return o.watching(address).silent
}

// Upstream implements engine.Owners.
func (o *Owners) Upstream(address string) (sessionv1.UpstreamServiceClient, error) {
	if address == "" {
		return sessionv1.NewUpstreamServiceClient(o.config.Any), nil
	}
	conn, err := o.config.Dial(address)
	if err != nil {
		return nil, err
	}
	return sessionv1.NewUpstreamServiceClient(conn), nil
}

// Home implements engine.Owners. It is the same as long as the same owners are known, so that the owner's end of the
// server serves all calls of the principal.
func (o *Owners) Home(principal, server string) string { return o.pick(principal + "\x00" + server) }

// pick chooses among the owners that are being watched by rendezvous hashing; empty where there are none.
func (o *Owners) pick(key string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	best, bestScore := "", uint64(0)
	for address, w := range o.watches {
		if !w.live {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(address + "\x00" + key))
		if score := h.Sum64(); best == "" || score > bestScore || score == bestScore && address < best {
			best, bestScore = address, score
		}
	}
	return best
}

// Close ends all watches and waits for them.
func (o *Owners) Close() {
	o.mu.Lock()
	o.closed = true
	for _, w := range o.watches {
		w.cancel()
	}
	o.mu.Unlock()
	o.running.Wait()
}

// watch hears from one owner which of its sessions ended or moved.
type watch struct {
	cancel context.CancelFunc
	live   bool   // its stream is open; under Owners.mu
	mark   uint64 // the owner's newest mark; under Owners.mu
	// used are the owner's sessions that clients used since it was last told. Under Owners.mu.
	used map[string]struct{}
	// silent ends, by hush, when nothing was heard for Silence; both are new once something is. Under Owners.mu.
	silent context.Context
	hush   context.CancelFunc
}

// heard notes that the owner is there; Owners.mu is held.
func (w *watch) heard() {
	if w.silent.Err() != nil {
		w.silent, w.hush = context.WithCancel(context.Background())
	}
}

// remember keeps facts if the owner's watch is open and at most as far as the facts are: later endings will be
// heard. It starts the watch of an owner that is new. It is false where the facts may be older than the watch.
func (o *Owners) remember(facts *sessionv1.SessionFacts) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return true
	}
	w := o.watching(facts.GetAddress())
	if !w.live {
		return true
	}
	if w.mark > facts.GetMark() {
		return false
	}
	if len(o.known) >= o.config.MaxKnown {
		for id := range o.known { // any one will do: it costs its session one look-up
			delete(o.known, id)
			break
		}
	}
	o.known[facts.GetSessionId()] = facts
	return true
}

// watching returns the watch of the owner at an address, and starts it where there is none; mu is held.
func (o *Owners) watching(address string) *watch {
	if w := o.watches[address]; w != nil {
		return w
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, used: map[string]struct{}{}}
	w.silent, w.hush = context.WithCancel(context.Background())
	o.watches[address] = w
	o.running.Go(func() { o.follow(ctx, address, w) })
	return w
}

// idleOwner is how long an owner that can't be reached is still tried.
const idleOwner = time.Minute

// follow watches one owner until ctx ends or the owner is gone for long.
func (o *Owners) follow(ctx context.Context, address string, w *watch) {
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		w.cancel()
		w.hush()
		delete(o.watches, address)
	}()
	lastSeen := time.Now()
	for ctx.Err() == nil && time.Since(lastSeen) < idleOwner {
		if o.stream(ctx, address, w) {
			lastSeen = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stream follows the owner's watch once. heard is true if the owner answered.
func (o *Owners) stream(ctx context.Context, address string, w *watch) (heard bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := newAlarm(o.config.Silence, func() {
		cancel()
		o.mu.Lock()
		defer o.mu.Unlock()
		w.hush()
	})
	defer silence.stop()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		w.live = false
		for id, facts := range o.known {
			if facts.GetAddress() == address {
				delete(o.known, id)
			}
		}
	}()
	client, err := o.Session(address)
	if err != nil {
		return false
	}
	stream, err := client.WatchSessions(ctx, &sessionv1.WatchSessionsRequest{})
	for err == nil {
		var event *sessionv1.WatchSessionsResponse
		if event, err = stream.Recv(); err != nil {
			break
		}
		heard = true
		silence.again()
		o.mu.Lock()
		w.live, w.mark = true, event.GetMark()
		w.heard()
		if event.GetSessionId() != "" {
			delete(o.known, event.GetSessionId())
		}
		used := w.used
		if len(used) > 0 {
			w.used = map[string]struct{}{}
			o.running.Go(func() { tellUsed(ctx, client, used) })
		}
		o.mu.Unlock()
	}
	if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		o.config.Log.Info("an owner's watch broke", "owner", address, "error", err)
	}
	return heard
}

// tellUsed tells an owner which sessions are in use; much of what clients ask never reaches it. It is told again soon.
func tellUsed(ctx context.Context, owner sessionv1.SessionServiceClient, used map[string]struct{}) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = owner.UseSessions(ctx, &sessionv1.UseSessionsRequest{SessionIds: slices.Collect(maps.Keys(used))})
}
