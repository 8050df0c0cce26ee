package mcphttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
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

var _ upstream.Peer = (*Legacy)(nil)

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
	reply, err := l.answer(ctx, response, call)
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

// Resume continues a session that another process opened.
func Resume(config LegacyConfig) (*Legacy, error) {
	l, err := newLegacy(config)
	if err != nil {
		return nil, err
	}
	l.session, l.version = config.SessionID, config.Version
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
		l.running.Go(l.stand)
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })()
	call, err := l.mux.Begin(ctx, req, from)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer call.End()
	header := l.postHeader()
	l.headers(header)
	mirror(header, req.Headers)
	response, err := l.post(ctx, l.url, header, call.Message) //nolint:bodyclose // answer closes it
	var reply upstream.Reply
	if err == nil {
		reply, err = l.answer(ctx, response, call)
	}
	if err != nil && ctx.Err() != nil && l.ctx.Err() == nil {
		// Closing the request would not tell the server (2025-11-25, cancellation).
		l.late.send(l.ctx, call, l.send)
	}
	return reply, err
}

// answer reads a call's response: one JSON message or an event stream. A stream that ends early, having told an
// event id, is resumed (SEP-1699).
func (l *Legacy) answer(ctx context.Context, response *http.Response, call *mux.Call) (upstream.Reply, error) {
	switch {
	case response.StatusCode == http.StatusNotFound && l.session != "":
		discard(response)
		return upstream.Reply{}, upstream.ErrSessionGone
	case kind(response) == "text/event-stream" && response.StatusCode == http.StatusOK:
		return l.stream(ctx, response, call)
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

// Bounds of resuming a call's stream.
const (
	defaultRetry = 500 * time.Millisecond
	minRetry     = 10 * time.Millisecond
	maxRetry     = 30 * time.Second
	maxResumes   = 1000
)

func (l *Legacy) stream(ctx context.Context, response *http.Response, call *mux.Call) (upstream.Reply, error) {
	position := position{retry: defaultRetry}
	for range maxResumes {
		err := l.read(ctx, response, call, &position)
		select {
		case <-call.Done:
			return call.Reply()
		default:
		}
		if ctx.Err() != nil {
			return upstream.Reply{}, context.Cause(ctx)
		}
		if position.id == "" || errors.Is(err, upstream.ErrTooLarge) || errors.Is(err, upstream.ErrRefused) {
			return upstream.Reply{}, err
		}
		if response, err = l.resume(ctx, &position, call); err != nil { //nolint:bodyclose // read closes it
			return upstream.Reply{}, err
		}
		if response == nil {
			return call.Reply()
		}
	}
	return upstream.Reply{}, fmt.Errorf("%w: its stream broke %d times", upstream.ErrLost, maxResumes)
}

// position is where a stream can be resumed.
type position struct {
	id    string
	retry time.Duration
}

// read delivers a stream's events until it ends or the call is answered.
func (l *Legacy) read(ctx context.Context, response *http.Response, call *mux.Call, at *position) error {
	answered := false
	defer func() {
		if answered {
			discard(response) // a stream ends behind the answer
		} else {
			_ = response.Body.Close()
		}
	}()
	decoder := sse.NewDecoder(response.Body, l.max)
	for {
		event, err := decoder.Next()
		if err != nil {
			return streamError(ctx, err)
		}
		if event.HasID {
			at.id = event.ID
		}
		if event.Retry > 0 {
			at.retry = max(min(event.Retry, maxRetry), minRetry)
		}
		if len(event.Data) == 0 || event.Name != "message" {
			continue
		}
		if err := l.mux.Deliver(event.Data, call); err != nil {
			return err
		}
		if call != nil {
			select {
			case <-call.Done:
				answered = true
				return nil
			default:
			}
		}
	}
}

// resume asks for what follows a position, after the time that the server wants. The response is nil where the
// call was answered meanwhile.
func (l *Legacy) resume(ctx context.Context, at *position, call *mux.Call) (*http.Response, error) {
	failures := 0
	for {
		select {
		case <-time.After(at.retry):
		case <-call.Done: // answered on another stream
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		response, err := l.get(ctx, at.id)
		if err == nil {
			return response, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if failures++; failures == 5 || final(err) {
			// In words only: the call was sent, whatever became of the attempts to hear its answer.
			return nil, fmt.Errorf("%w: its stream could not be resumed: %v", upstream.ErrLost, err) //nolint:errorlint // see above
		}
	}
}

// final reports whether asking for a stream again would bring the same error.
func final(err error) bool {
	var refused *upstream.StatusError
	if errors.As(err, &refused) {
		return refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests && refused.Status != http.StatusConflict
	}
	return errors.Is(err, upstream.ErrSessionGone)
}

// get opens an event stream, behind an event where after is not empty.
func (l *Legacy) get(ctx context.Context, after string) (*http.Response, error) {
	header := l.header.Clone()
	l.headers(header)
	header["Accept"] = events
	if after != "" {
		header[mcp.HeaderLastEvent] = []string{after}
	}
	response, err := l.roundTrip(l.bare(ctx, http.MethodGet, header))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusNotFound:
		discard(response)
		return nil, upstream.ErrSessionGone
	case response.StatusCode != http.StatusOK || kind(response) != "text/event-stream":
		discard(response)
		return nil, statusError(response)
	}
	return response, nil
}

// stand hears the standing stream until the conversation ends, coming back to it when it breaks.
func (l *Legacy) stand() {
	defer close(l.silent)
	at := position{retry: defaultRetry}
	for l.ctx.Err() == nil {
		response, err := l.get(l.ctx, at.id) //nolint:bodyclose // read closes it
		wait := at.retry
		switch {
		case err == nil:
			_ = l.read(l.ctx, response, nil, &at) // it broke, or the server ended it: come back
			wait = at.retry
		case final(err) && at.id != "" && !errors.Is(err, upstream.ErrSessionGone):
			at.id = "" // the server kept no events: hear what comes from now on
		case final(err):
			return // it has none, or the session is over: the next call says so
		default:
			wait = max(wait, 2*time.Second)
		}
		select {
		case <-time.After(wait):
		case <-l.ctx.Done():
		}
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
	return l.send(ctx, jsonrpc.Request(nil, method, params))
}

// Close implements upstream.Peer. It ends the session at the server too.
func (l *Legacy) Close() error {
	l.close.Do(func() {
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

func (l *Legacy) delete() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	header := l.header.Clone()
	l.headers(header)
	if response, err := l.roundTrip(l.bare(ctx, http.MethodDelete, header)); err == nil {
		discard(response)
	}
}
