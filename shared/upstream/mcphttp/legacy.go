package mcphttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mux"
)

// Legacy is a conversation with a server of Streamable HTTP, revisions 2025-03-26 to 2025-11-25, with a session
// or, where the server issues none, without.
type Legacy struct {
	*endpoint
	mux     *mux.Mux
	version string
	session string
	result  json.RawMessage

	ctx     context.Context // ends with Close
	cancel  context.CancelCauseFunc
	silent  chan struct{} // closed once nothing more is heard outside calls
	late    cancellations
	running sync.WaitGroup
	close   sync.Once
}

var (
	_ upstream.Peer      = (*Legacy)(nil)
	_ upstream.Continuer = (*Legacy)(nil)
)

// LegacyConfig is how a legacy server is reached, and for whom.
type LegacyConfig struct {
	Config
	// Version is the newest revision to speak; capabilities and info are the client's. For Initialize.
	Version      string
	Capabilities json.RawMessage
	Info         json.RawMessage
	// SessionID continues a session that another conversation opened, in the revision Version. For Resume.
	SessionID string
	// Listener hears what the server sends outside any call. Optional.
	Listener upstream.Listener
	// Journal hears how far the standing stream was heard, and After is how far it was when another process heard it: for
	// Resume. Optional.
	Journal upstream.Journal
	After   string
	// NoStream does without the server's standing stream: nothing is heard outside calls.
	NoStream bool
}

// Initialize opens a conversation (specification 2025-11-25, lifecycle).
func Initialize(ctx context.Context, config LegacyConfig) (*Legacy, error) {
	l, err := newLegacy(config)
	if err != nil {
		return nil, err
	}
	if err := l.initialize(ctx, config); err != nil {
		_ = l.Close() // and with it the session, if the server opened one
		return nil, err
	}
	l.follow(config)
	return l, nil
}

func (l *Legacy) initialize(ctx context.Context, config LegacyConfig) error {
	call, err := l.mux.Begin(ctx, upstream.Request{
		Method: mcp.MethodInitialize, Params: mcp.InitializeParams(config.Version, config.Capabilities, config.Info),
	}, nil)
	if err != nil {
		return err
	}
	defer call.End()
	response, err := l.post(ctx, l.url, l.postHeader(), call.Message) //nolint:bodyclose // answer closes it
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		l.session = response.Header.Get(mcp.HeaderSession)
	}
	reply, err := l.answer(ctx, response, call, &position{retry: defaultRetry})
	if err != nil {
		return err
	}
	if reply.Error != nil {
		return fmt.Errorf("%w: initialize: %w", upstream.ErrRefused, jsonrpc.ParseError(reply.Error))
	}
	l.result = reply.Result
	if l.version, _ = jsonrpc.GetString(reply.Result, "protocolVersion"); !mcp.IsLegacy(l.version) {
		return fmt.Errorf("%w: it speaks revision %q, which is not known here", upstream.ErrRefused, l.version)
	}
	return l.Notify(ctx, mcp.MethodInitialized, nil)
}

// Resume continues a session that another process opened. The answers to that process's calls are not heard here but
// by Continue.
func Resume(config LegacyConfig) (*Legacy, error) {
	l, err := newLegacy(config)
	if err != nil {
		return nil, err
	}
	l.session, l.version = config.SessionID, config.Version
	// An id must not be used again within a session (2025-11-25, basic). Nobody says which ones were used, so they
	// begin anywhere beyond those of Initialize, and below 1<<53, what servers hold exactly in a float.
	l.mux.IDsAfter(1<<50 + rand.Int64N(1<<52))
	l.follow(config)
	return l, nil
}

func newLegacy(config LegacyConfig) (*Legacy, error) {
	e, err := newEndpoint(config.Config)
	if err != nil {
		return nil, err
	}
	l := &Legacy{endpoint: e, silent: make(chan struct{}), late: cancellations{slots: make(chan struct{}, maxLate)}}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.mux = mux.New(config.Listener, l.send)
	return l, nil
}

// follow starts hearing the standing stream. Without a session there is none that would be ours alone.
func (l *Legacy) follow(config LegacyConfig) {
	if l.session != "" && !config.NoStream {
		at := position{retry: defaultRetry, id: config.After, journal: config.Journal, told: true}
		l.running.Go(func() { l.stand(at) })
	} else {
		close(l.silent)
	}
}

// Silent is closed once nothing more will be heard outside calls: the server has no standing stream or ended the
// session, none was wanted, or the conversation was closed.
func (l *Legacy) Silent() <-chan struct{} { return l.silent }

// Result is the server's InitializeResult; nil after Resume.
func (l *Legacy) Result() json.RawMessage { return l.result }

// SessionID is the session's, empty where the server issued none.
func (l *Legacy) SessionID() string { return l.session }

// Version is the negotiated revision.
func (l *Legacy) Version() string { return l.version }

func (l *Legacy) headers(h http.Header) {
	if l.session != "" {
		h[mcp.HeaderSession] = []string{l.session}
	}
	if l.version != "" {
		h[mcp.HeaderVersion] = []string{l.version}
	}
}

// Call implements upstream.Peer.
func (l *Legacy) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	ctx, cancel := l.within(ctx)
	defer cancel(nil)
	call, err := l.mux.Begin(ctx, req, from)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer call.End()
	header := l.postHeader()
	l.headers(header)
	mirror(header, req.Headers)
	if req.Journal != nil {
		req.Journal.Sent(call.ID())
	}
	response, err := l.post(ctx, l.url, header, call.Message) //nolint:bodyclose // answer closes it
	var reply upstream.Reply
	at := position{retry: defaultRetry, journal: req.Journal}
	if err == nil {
		reply, err = l.answer(ctx, response, call, &at)
	}
	l.givenUp(ctx, call, &at, err)
	return reply, err
}

// givenUp tells the server that a call was given up, if it was and nobody can go on with it elsewhere: closing the
// request would not (2025-11-25, cancellation).
func (l *Legacy) givenUp(ctx context.Context, call *mux.Call, at *position, err error) {
	left := at.told && errors.Is(context.Cause(ctx), upstream.ErrLeft)
	if err != nil && ctx.Err() != nil && l.ctx.Err() == nil && !left {
		l.late.send(l.ctx, call, l.send)
	}
}

// Continue implements upstream.Continuer.
func (l *Legacy) Continue(ctx context.Context, c upstream.Continued, from upstream.Listener) (upstream.Reply, error) {
	ctx, cancel := l.within(ctx)
	defer cancel(nil)
	call, err := l.mux.Continue(ctx, c.ID, c.Token, from)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer call.End()
	at := position{id: c.Position, retry: minRetry, told: true, heardUntil: time.Now().Add(c.Patience)}
	response, err := l.resume(ctx, &at, call) //nolint:bodyclose // stream closes it
	var reply upstream.Reply
	switch {
	case err == nil && response == nil:
		return call.Reply()
	case err == nil:
		at.retry = defaultRetry
		reply, err = l.stream(ctx, response, call, &at)
	}
	l.givenUp(ctx, call, &at, err)
	return reply, err
}

// answer reads a call's response: one JSON message or an event stream. A stream that ends early, having told an
// event id, is resumed (SEP-1699).
func (l *Legacy) answer(ctx context.Context, response *http.Response, call *mux.Call, at *position) (upstream.Reply, error) {
	switch {
	case response.StatusCode == http.StatusNotFound && l.session != "":
		discard(response)
		return upstream.Reply{}, upstream.ErrSessionGone
	case kind(response) == "text/event-stream" && response.StatusCode == http.StatusOK:
		return l.stream(ctx, response, call, at)
	case kind(response) != "application/json":
		discard(response)
		return upstream.Reply{}, statusError(response)
	}
	data, err := l.body(response)
	if err != nil {
		return upstream.Reply{}, err
	}
	if err := l.mux.Deliver(data, call); err != nil && response.StatusCode < http.StatusBadRequest {
		return upstream.Reply{}, err
	}
	select {
	case <-call.Done:
		reply, err := call.Reply()
		reply.Status = response.StatusCode
		return reply, err
	default:
		if response.StatusCode >= http.StatusBadRequest {
			return upstream.Reply{}, statusError(response)
		}
		return upstream.Reply{}, fmt.Errorf("%w: not the answer to the request", upstream.ErrRefused)
	}
}

// send posts a notification or response.
func (l *Legacy) send(ctx context.Context, message []byte) error {
	header := l.postHeader()
	l.headers(header)
	response, err := l.post(ctx, l.url, header, message)
	if err != nil {
		return err
	}
	discard(response)
	switch {
	case response.StatusCode == http.StatusNotFound && l.session != "":
		return upstream.ErrSessionGone
	case response.StatusCode >= http.StatusBadRequest:
		return statusError(response)
	}
	return nil
}

// Notify implements upstream.Peer.
func (l *Legacy) Notify(ctx context.Context, method string, params json.RawMessage) error {
	if err := l.mux.Over(); err != nil {
		return err
	}
	ctx, cancel := l.within(ctx)
	defer cancel(nil)
	return l.send(ctx, jsonrpc.Request(nil, method, params))
}

// within is ctx, ended by the conversation's end too.
func (l *Legacy) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return ctx, func(cause error) { stop(); cancel(cause) }
}

// Leave implements upstream.Continuer.
func (l *Legacy) Leave() {
	l.close.Do(func() {
		stop := time.AfterFunc(farewell, func() { l.cancel(upstream.ErrClosed) })
		defer stop.Stop()
		l.late.wait() // the server is still told of calls that were given up
		l.cancel(fmt.Errorf("%w: %w", upstream.ErrClosed, upstream.ErrLeft))
		l.mux.Fail(upstream.ErrClosed)
		l.running.Wait()
		l.late.wait()
		l.mux.Wait()
	})
}

// farewell is how long a server may take to hear that its calls are given up, and then that its session ended.
const farewell = 2 * time.Second

// Close implements upstream.Peer. It ends the calls and the session at the server too.
func (l *Legacy) Close() error {
	l.close.Do(func() {
		l.giveUp()
		l.cancel(upstream.ErrClosed)
		l.mux.Fail(upstream.ErrClosed)
		if l.session != "" {
			l.delete()
		}
		l.running.Wait()
		l.late.wait()
		l.mux.Wait()
	})
	return nil
}

// giveUp cancels the calls that are under way: there are servers that go on with them when their session ends, and
// end it only then.
func (l *Legacy) giveUp() {
	ctx, cancel := context.WithTimeout(l.ctx, farewell)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.cancel(upstream.ErrClosed) })() // cancellations that were sent before wait no longer
	var told sync.WaitGroup
	for _, call := range l.mux.UnderWay(maxLate) {
		told.Go(func() { _ = l.send(ctx, call.Cancelled("the conversation ends")) })
	}
	told.Wait()
	l.late.wait()
}

func (l *Legacy) delete() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	header := l.header.Clone()
	l.headers(header)
	if response, err := l.roundTrip(l.bare(ctx, http.MethodDelete, header)); err == nil {
		discard(response)
	}
}
