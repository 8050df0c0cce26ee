package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
)

// initialize opens a session at the endpoint and follows its standing stream. Nothing else is passed on meanwhile.
func (l *link) initialize(ctx context.Context, m *jsonrpc.Message, data []byte) {
	r, err := l.request(ctx, http.MethodPost, data)
	if err != nil {
		l.write(l.unreachable(m.ID, err))
		return
	}
	response, err := l.Client.Do(r)
	if err != nil {
		l.write(l.unreachable(m.ID, err))
		return
	}
	defer func() { _ = response.Body.Close() }()
	answer, _, err := l.receive(ctx, response, m.ID)
	if answer == nil {
		l.write(l.unreachable(m.ID, err))
		return
	}
	version, ok := jsonrpc.GetString(answer, "result", "protocolVersion")
	if session := response.Header.Get(mcp.HeaderSession); ok && session != "" {
		l.mu.Lock()
		l.session, l.version = session, version
		l.mu.Unlock()
		l.tasks.Go(func() { l.listen(ctx) })
	}
	l.write(answer)
}

// inSession makes an HTTP request of the session.
func (l *link) inSession(ctx context.Context, method string, body []byte) (*http.Request, error) {
	r, err := l.request(ctx, method, body)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != "" {
		r.Header[mcp.HeaderSession] = []string{l.session}
		r.Header[mcp.HeaderVersion] = []string{l.version}
	}
	return r, nil
}

// How often something is tried whose connection breaks, and by how much more is waited each time.
const (
	maxAttempts = 10
	pause       = 200 * time.Millisecond
)

// sendLegacy passes a message of the session on and its answer, if it has one, back.
func (l *link) sendLegacy(ctx context.Context, m *jsonrpc.Message, data []byte) {
	r, err := l.inSession(ctx, http.MethodPost, data)
	if err != nil {
		return
	}
	answer, last, err := l.exchange(ctx, r, m.ID)
	// A stream that broke is taken up behind the last event that came.
	for attempt := 0; answer == nil && last != "" && ctx.Err() == nil && !l.isWithdrawn(m.ID) && attempt < maxAttempts; attempt++ {
		if !sleep(ctx, time.Duration(attempt)*pause) {
			return
		}
		if r, err = l.inSession(ctx, http.MethodGet, nil); err != nil {
			break
		}
		r.Header.Set(mcp.HeaderLastEvent, last)
		var next string
		if answer, next, err = l.exchange(ctx, r, m.ID); next != "" {
			last = next
		}
	}
	switch {
	case answer != nil:
		l.write(answer)
	case m.IsRequest() && ctx.Err() == nil && err != nil && !l.isWithdrawn(m.ID):
		l.write(l.unreachable(m.ID, err))
	}
}

// bring passes on an answer of the client to what it was asked, until the endpoint takes or refuses it. It may come there
// twice: nobody waits for it then.
func (l *link) bring(ctx context.Context, answer []byte) {
	for attempt := range maxAttempts {
		if !sleep(ctx, time.Duration(attempt)*pause) {
			return
		}
		r, err := l.inSession(ctx, http.MethodPost, answer)
		if err != nil {
			return
		}
		response, err := l.Client.Do(r)
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		switch code := response.StatusCode; {
		case code >= http.StatusInternalServerError, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
			continue
		case code >= http.StatusBadRequest:
			l.Log.WarnContext(ctx, "an answer of the client was refused", "status", response.Status)
		}
		return
	}
	l.Log.WarnContext(ctx, "an answer of the client did not reach the endpoint")
}

func (l *link) exchange(ctx context.Context, r *http.Request, id json.RawMessage) (answer []byte, last string, err error) {
	response, err := l.Client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	return l.receive(ctx, response, id)
}

// listen follows the session's standing stream.
func (l *link) listen(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		r, err := l.inSession(ctx, http.MethodGet, nil)
		if err != nil {
			return
		}
		if last != "" {
			r.Header.Set(mcp.HeaderLastEvent, last)
		}
		response, err := l.Client.Do(r)
		if err == nil {
			if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed {
				_ = response.Body.Close()
				if last == "" {
					return // the session ended, or has no such stream
				}
				last = ""
			} else {
				_, next, _ := l.receive(ctx, response, nil)
				_ = response.Body.Close()
				if next != "" {
					last = next
				}
			}
		}
		if !sleep(ctx, 500*time.Millisecond) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// errStatus is an HTTP answer without a message in it.
var errStatus = errors.New("it answered with an HTTP error")

// receive reads a response: the answer to id, where it is in there, and the id of the last event. Everything else
// goes to the client.
func (l *link) receive(ctx context.Context, response *http.Response, id json.RawMessage) (answer []byte, last string, err error) {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case kind == "text/event-stream" && response.StatusCode == http.StatusOK:
		return l.events(ctx, response, id)
	case response.StatusCode == http.StatusAccepted || response.StatusCode == http.StatusNoContent:
		return nil, "", nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(l.MaxMessage)+1))
	if err != nil {
		return nil, "", err
	}
	if kind == "application/json" && len(body) <= l.MaxMessage && jsonrpc.Check(body) == nil {
		if message, err := jsonrpc.Parse(body); err == nil && message.Error != nil && string(message.ID) != string(id) {
			return jsonrpc.ErrorResponse(id, message.Error), "", nil // refused before its id was read
		}
		return body, "", nil
	}
	return nil, "", fmt.Errorf("%w: %s", errStatus, response.Status)
}

func (l *link) events(ctx context.Context, response *http.Response, id json.RawMessage) (answer []byte, last string, err error) {
	events := sse.NewDecoder(response.Body, l.MaxMessage)
	for {
		event, err := events.Next()
		if err != nil {
			return nil, last, err
		}
		if event.HasID {
			last = event.ID
		}
		if len(event.Data) == 0 || ctx.Err() != nil {
			continue
		}
		m, err := jsonrpc.Parse(event.Data)
		if err != nil && !errors.Is(err, jsonrpc.ErrBatch) {
			continue
		}
		if id != nil && m.IsResponse() && string(m.ID) == string(id) {
			return event.Data, last, nil
		}
		l.write(event.Data)
	}
}

// closeTime is how long the end of the session may take.
const closeTime = 5 * time.Second

func (l *link) closeSession() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	l.mu.Lock()
	session := l.session
	l.mu.Unlock()
	if session == "" {
		return
	}
	r, err := l.inSession(ctx, http.MethodDelete, nil)
	if err != nil {
		return
	}
	if response, err := l.Client.Do(r); err == nil {
		_ = response.Body.Close()
	}
}
