package stdio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"erlmcp.dev/gateway/transport/channel"
	"erlmcp.dev/gateway/transport/channel/lines"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Bridge passes messages between two streams and a Streamable HTTP endpoint, in both eras.
type Bridge struct {
	// URL is the endpoint, such as http://127.0.0.1:8081/mcp.
	URL string
	// Key is an API key or token; empty for none.
	Key string
	// Client sends the requests; it must not have a timeout of its own. http.DefaultClient when nil.
	Client *http.Client
	// MaxMessage is the longest message in bytes, either way; 16 MiB when 0.
	MaxMessage int
	Log        *slog.Logger
}

// maxUnderWay is how many of the client's requests are passed on at once.
const maxUnderWay = 100

// settleTime is how long requests may go on after the client's stream ended.
const settleTime = 5 * time.Second

// Run passes messages on until in or ctx ends, and ends the session, if there is one.
func (b *Bridge) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	if b.Client == nil {
		b.Client = http.DefaultClient
	}
	if b.MaxMessage == 0 {
		b.MaxMessage = 16 << 20
	}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &link{Bridge: b, out: out, cancel: cancel, oneWay: make(chan struct{}, maxUnderWay), calls: map[string]call{}}
	c := &conn{lines: make(chan line), ended: make(chan struct{})}
	defer c.Close(channel.Gone)
	go c.read(lines.NewReader(in, b.MaxMessage)) // left behind when ctx ends: standard input can't be interrupted
	err := l.read(ctx, c)
	l.settle(ctx)
	cancel()
	l.tasks.Wait()
	l.closeSession()
	return err
}

// link is one client's way to the endpoint.
type link struct {
	*Bridge
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	oneWay chan struct{} // a place for each notification or response that is being passed on
	params toolParams

	writing sync.Mutex
	out     io.Writer

	mu      sync.Mutex
	session string          // Mcp-Session-Id
	version string          // negotiated
	calls   map[string]call // under way, by raw id
}

// call is a request that is under way.
type call struct {
	cancel         context.CancelFunc
	modern, listen bool
	withdrawn      bool // the client cancelled it: the endpoint need not answer
}

func (l *link) read(ctx context.Context, c *conn) error {
	for {
		select {
		case next := <-c.lines:
			switch {
			case errors.Is(next.err, channel.ErrTooLong):
				l.fail(nil, jsonrpc.CodeInvalidRequest, "the message is longer than %d bytes", l.MaxMessage)
			case errors.Is(next.err, io.EOF):
				return nil
			case next.err != nil:
				return fmt.Errorf("reading from the client: %w", next.err)
			default:
				l.take(ctx, next.message)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// settle gives requests under way some time; subscriptions none.
func (l *link) settle(ctx context.Context) {
	deadline := time.After(settleTime)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		n := 0
		l.mu.Lock()
		for _, c := range l.calls {
			if !c.listen {
				n++
			}
		}
		l.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// take passes one message of the client on.
func (l *link) take(ctx context.Context, data []byte) {
	m, err := jsonrpc.Parse(data)
	batch := errors.Is(err, jsonrpc.ErrBatch)
	if err != nil && !batch {
		code := jsonrpc.CodeInvalidRequest
		if errors.Is(err, jsonrpc.ErrSyntax) {
			code = jsonrpc.CodeParse
		}
		l.fail(m.ID, int64(code), "%s", err)
		return
	}
	modern := jsonrpc.Get(m.Params, "_meta", mcp.MetaVersion) != nil
	switch {
	case m.Method == mcp.MethodInitialize && m.IsRequest() && !modern:
		l.initialize(ctx, &m, data)
		return
	case m.Method == mcp.MethodCancelled && l.cancelModern(jsonrpc.Get(m.Params, "requestId")):
		return
	case m.IsNotification() && modern:
		return // a modern endpoint has no use for any
	}
	if !m.IsRequest() {
		select {
		case l.oneWay <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if m.Method == mcp.MethodCancelled {
			l.withdraw(jsonrpc.Get(m.Params, "requestId"))
		}
		l.tasks.Go(func() {
			defer func() { <-l.oneWay }()
			if !batch && m.IsResponse() {
				l.bring(ctx, data)
				return
			}
			l.sendLegacy(ctx, &m, data)
			if m.Method == mcp.MethodCancelled {
				l.abandon(jsonrpc.Get(m.Params, "requestId")) // the endpoint knows, and will not answer
			}
		})
		return
	}
	calling, refused := l.begin(ctx, &m, modern)
	if refused != "" {
		l.fail(m.ID, jsonrpc.CodeInvalidRequest, "%s", refused)
		return
	}
	l.tasks.Go(func() {
		defer l.done(m.ID)
		if modern {
			l.sendModern(calling, &m, data)
		} else {
			l.sendLegacy(calling, &m, data)
		}
	})
}

// begin registers a request, or says why it is refused.
func (l *link) begin(ctx context.Context, m *jsonrpc.Message, modern bool) (calling context.Context, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.calls) >= maxUnderWay:
		return nil, "too many requests are under way; wait for an answer"
	case l.calls[string(m.ID)].cancel != nil:
		return nil, "a request with this id is still under way"
	}
	calling, cancel := context.WithCancel(ctx)
	l.calls[string(m.ID)] = call{cancel: cancel, modern: modern, listen: m.Method == mcp.MethodListen}
	return calling, ""
}

func (l *link) done(id json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[string(id)].cancel()
	delete(l.calls, string(id))
}

// cancelModern ends the HTTP request of a modern request, which cancels it. It is false where there is none.
func (l *link) cancelModern(id json.RawMessage) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[string(id)]
	if !c.modern {
		return false
	}
	c.cancel()
	return true
}

// withdraw notes that the client no longer waits for an answer.
func (l *link) withdraw(id json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.calls[string(id)]; ok {
		c.withdrawn = true
		l.calls[string(id)] = c
	}
}

func (l *link) isWithdrawn(id json.RawMessage) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[string(id)].withdrawn
}

// abandon ends the wait for an answer.
func (l *link) abandon(id json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.calls[string(id)]; ok {
		c.cancel()
	}
}

// write writes a message to the client. A client that can't be written to is gone.
func (l *link) write(message []byte) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if _, err := l.out.Write(lines.Append(nil, [][]byte{message})); err != nil {
		l.cancel()
	}
}

// fail answers a request with an error of ours.
func (l *link) fail(id json.RawMessage, code int64, format string, args ...any) {
	if id == nil {
		id = json.RawMessage("null")
	}
	l.write(jsonrpc.ErrorResponse(id, jsonrpc.Errorf(code, format, args...).JSON()))
}

// request makes an HTTP request to the endpoint.
func (l *link) request(ctx context.Context, method string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if l.Key != "" {
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(l.Key))
	}
	return r, nil
}
