package mcphttp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mux"
)

// Bounds of coming back to a stream.
const (
	defaultRetry = 500 * time.Millisecond
	minRetry     = 10 * time.Millisecond
	maxRetry     = 30 * time.Second
	// pollPause is how far the pauses of a call's stream grow: somebody waits for the answer.
	pollPause = time.Second
	// standPause is how far those of the standing stream grow.
	standPause = 30 * time.Second
	// longLived is for how long a stream must have stood to be one that the server means to keep open.
	longLived = 10 * time.Second
	// maxRefused is how many attempts to resume a call's stream may fail in a row.
	maxRefused = 5
)

// position is where a stream can be resumed, and when.
type position struct {
	id    string
	retry time.Duration // what the server asks for
	// journal hears of the position; nil for nobody. told says that it did.
	journal upstream.Journal
	told    bool
	// heardUntil is until when somebody else may hear the stream.
	heardUntil time.Time
	// fruitless counts the attempts in a row that brought nothing, nor stood for long.
	fruitless int
}

// tell tells the journal of an event that was passed on. A question of the server behind which the first position
// would stand would never come again, and so its call can't be continued elsewhere.
func (p *position) tell(e sse.Event) {
	switch {
	case p.journal == nil:
	case !p.told && jsonrpc.Get(e.Data, "method") != nil && jsonrpc.Get(e.Data, "id") != nil:
		p.journal = nil
	case e.HasID:
		p.told = true
		p.journal.At(e.ID)
	}
}

// pause is the time until the next attempt: no less than the server asks for; and more, though never beyond most,
// while the attempts bring nothing.
func (p *position) pause(most time.Duration) time.Duration {
	wait := p.retry
	for i := 1; i < p.fruitless && wait < most; i++ {
		wait = min(2*wait, most)
	}
	return wait
}

// stream reads a call's answer that comes as events. It may end early, having told an event id: then the server
// wants to be polled for the rest (SEP-1699), for as long as ctx lasts.
func (l *Legacy) stream(ctx context.Context, response *http.Response, call *mux.Call, at *position) (upstream.Reply, error) {
	for {
		err := l.read(ctx, response, call, at)
		select {
		case <-call.Done:
			return call.Reply()
		default:
		}
		if ctx.Err() != nil {
			return upstream.Reply{}, context.Cause(ctx)
		}
		if at.id == "" || errors.Is(err, upstream.ErrTooLarge) || errors.Is(err, upstream.ErrRefused) {
			return upstream.Reply{}, err
		}
		if response, err = l.resume(ctx, at, call); err != nil { //nolint:bodyclose // read closes it
			return upstream.Reply{}, err
		}
		if response == nil {
			return call.Reply()
		}
	}
}

// read delivers a stream's events until it ends or the call is answered.
func (l *Legacy) read(ctx context.Context, response *http.Response, call *mux.Call, at *position) error {
	answered, opened := false, time.Now()
	at.fruitless++
	defer func() {
		if answered {
			discard(response) // a stream ends behind the answer
		} else {
			_ = response.Body.Close()
		}
		if time.Since(opened) >= longLived {
			at.fruitless = 0
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
		if len(event.Data) > 0 && event.Name == "message" {
			if err := l.mux.Deliver(event.Data, call); err != nil {
				return err
			}
			at.fruitless = 0
		}
		if call != nil {
			select {
			case <-call.Done:
				answered = true
				return nil // behind the answer there is no place to go on from
			default:
			}
		}
		at.tell(event)
	}
}

// resume asks for what follows a position. The response is nil where the call was answered meanwhile.
func (l *Legacy) resume(ctx context.Context, at *position, call *mux.Call) (*http.Response, error) {
	for refused := 0; ; {
		select {
		case <-time.After(at.pause(pollPause)):
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
		at.fruitless++
		if refused++; (refused >= maxRefused || final(err)) && !(conflicts(err) && time.Now().Before(at.heardUntil)) {
			// In words only: the call was sent, whatever became of the attempts to hear its answer.
			return nil, fmt.Errorf("%w: its stream could not be resumed: %v", upstream.ErrLost, err) //nolint:errorlint // see above
		}
	}
}

// conflicts reports whether a server says that somebody hears the stream already.
func conflicts(err error) bool {
	var refused *upstream.StatusError
	return errors.As(err, &refused) && refused.Status == http.StatusConflict
}

// final reports whether asking for a stream again would bring the same error.
func final(err error) bool {
	var refused *upstream.StatusError
	if errors.As(err, &refused) {
		return refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests && !conflicts(err)
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

// stand hears the standing stream until the conversation ends, coming back to it when it breaks. It comes back
// soon to a stream that stood for a while, lest something is missed, and ever later to one that is of no use.
func (l *Legacy) stand(at position) {
	defer close(l.silent)
	for l.ctx.Err() == nil {
		response, err := l.get(l.ctx, at.id) //nolint:bodyclose // read closes it
		switch {
		case err == nil:
			_ = l.read(l.ctx, response, nil, &at) // it broke, or the server ended it
		case final(err) && at.id != "" && !errors.Is(err, upstream.ErrSessionGone):
			at.id = "" // the server kept no events: hear what comes from now on
		case final(err):
			return // it has none, or the session is over: the next call says so
		default:
			at.fruitless++
		}
		wait := at.pause(standPause)
		select {
		case <-time.After(wait + rand.N(wait/4+1)): // a server that comes up again is not asked by all at once
		case <-l.ctx.Done():
		}
	}
}
