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
	call, err := l.mux.Begin(ctx, upstream.Request{
		Method: mcp.MethodInitialize, Params: mcp.InitializeParams(config.Version, config.Capabilities, config.Info),
	}, nil)
	if err != nil {
		return nil, err
	}
	defer call.End()
	response, err := l.post(ctx, l.url, call.Message, nil)
	if err != nil {
		return nil, err
	}
	session := response.Header.Get(mcp.HeaderSession)
	reply, err := l.answer(ctx, response, call)
	if err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("%w: initialize: %w", upstream.ErrRefused, jsonrpc.ParseError(reply.Error))
	}
	l.session, l.result = session, reply.Result
	if l.version, _ = jsonrpc.GetString(reply.Result, "protocolVersion"); !mcp.IsLegacy(l.version) {
		return nil, fmt.Errorf("%w: it speaks revision %q, which is not known here", upstream.ErrRefused, l.version)
	}
	if err := l.Notify(ctx, mcp.MethodInitialized, nil); err != nil {
		return nil, err
	}
	l.follow(config)
	return l, nil
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
	l := &Legacy{endpoint: e}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.mux = mux.New(config.Listener, l.send)
	return l, nil
}

// follow starts hearing the standing stream. Without a session there is none that would be ours alone.
func (l *Legacy) follow(config LegacyConfig) {
	if l.session != "" && !config.NoStream {
		l.running.Go(l.stand)
	}
}

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
	response, err := l.post(ctx, l.url, call.Message, func(h http.Header) {
		l.headers(h)
		for key, values := range req.Headers {
			h[key] = values
		}
	})
	var reply upstream.Reply
	if err == nil {
		reply, err = l.answer(ctx, response, call)
	}
	if err != nil && ctx.Err() != nil && l.ctx.Err() == nil {
		l.cancelCall(call)
	}
	return reply, err
}

// cancelCall tells the server that nobody waits any more: closing the request would not (2025-11-25,
// cancellation).
func (l *Legacy) cancelCall(call *mux.Call) {
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
	defer cancel()
	_ = l.send(ctx, call.Cancelled("the caller gave up"))
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
		if response, err = l.resume(ctx, &position, call); err != nil {
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
	defer func() { _ = response.Body.Close() }()
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
			at.retry = min(event.Retry, maxRetry)
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
		if failures++; failures == 5 || errors.Is(err, upstream.ErrRefused) || errors.Is(err, upstream.ErrSessionGone) {
			return nil, fmt.Errorf("%w: its stream could not be resumed: %w", upstream.ErrLost, err)
		}
	}
}

// get opens an event stream, behind an event where after is not empty.
func (l *Legacy) get(ctx context.Context, after string) (*http.Response, error) {
	header := l.header.Clone()
	l.headers(header)
	header["Accept"] = events
	if after != "" {
		header[mcp.HeaderLastEvent] = []string{after}
	}
	r := (&http.Request{
		Method: http.MethodGet, URL: l.url, Host: l.url.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	response, err := l.roundTrip(r)
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
	at := position{retry: defaultRetry}
	for l.ctx.Err() == nil {
		response, err := l.get(l.ctx, at.id)
		if err == nil {
			_ = l.read(l.ctx, response, nil, &at) // it broke, or the server ended it: come back
		}
		var refused *upstream.StatusError
		if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests && refused.Status != http.StatusConflict || errors.Is(err, upstream.ErrSessionGone) {
			return // it has none, or the session is over: the next call says so
		}
		wait := at.retry
		if err != nil {
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
	response, err := l.post(ctx, l.url, message, l.headers)
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
		l.mux.Wait()
	})
	return nil
}

func (l *Legacy) delete() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	header := l.header.Clone()
	l.headers(header)
	r := (&http.Request{
		Method: http.MethodDelete, URL: l.url, Host: l.url.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if response, err := l.roundTrip(r); err == nil {
		discard(response)
	}
}
