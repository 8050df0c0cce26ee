package mcphttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/sse"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mux"
)

// SSE is a conversation over the HTTP+SSE transport of revision 2024-11-05: everything that the server sends
// comes on one stream. When the stream breaks the conversation is over.
type SSE struct {
	*endpoint
	mux    *mux.Mux
	to     *url.URL // where messages are posted
	result json.RawMessage

	ctx     context.Context // ends with the stream
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed once the stream ended
	late    cancellations
	running sync.WaitGroup
	close   sync.Once
}

var _ upstream.Peer = (*SSE)(nil)

// OpenSSE opens a conversation.
func OpenSSE(ctx context.Context, config LegacyConfig) (*SSE, error) {
	e, err := newEndpoint(config.Config)
	if err != nil {
		return nil, err
	}
	s := &SSE{endpoint: e, ended: make(chan struct{}), late: cancellations{slots: make(chan struct{}, maxLate)}}
	s.mux = mux.New(config.Listener, s.send)
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	ready := make(chan error, 1)
	s.running.Go(func() { s.stream(ready) })
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		err = s.initialize(ctx, config)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *SSE) initialize(ctx context.Context, config LegacyConfig) error {
	reply, err := s.Call(ctx, upstream.Request{
		Method: mcp.MethodInitialize, Params: mcp.InitializeParams(config.Version, config.Capabilities, config.Info),
	}, nil)
	if err != nil {
		return err
	}
	if reply.Error != nil {
		return fmt.Errorf("%w: initialize: %w", upstream.ErrRefused, jsonrpc.ParseError(reply.Error))
	}
	if version, _ := jsonrpc.GetString(reply.Result, "protocolVersion"); !mcp.IsLegacy(version) {
		return fmt.Errorf("%w: it speaks revision %q, which is not known here", upstream.ErrRefused, version)
	}
	s.result = reply.Result
	return s.Notify(ctx, mcp.MethodInitialized, nil)
}

// Done is closed once the conversation ended.
func (s *SSE) Done() <-chan struct{} { return s.ended }

// Result is the server's InitializeResult.
func (s *SSE) Result() json.RawMessage { return s.result }

// stream reads the server's stream to its end. ready hears whether it opened and told where to post.
func (s *SSE) stream(ready chan<- error) {
	defer close(s.ended)
	err := s.read(s.ctx, ready)
	s.mux.Fail(err)
	s.cancel(err)
	select {
	case ready <- err:
	default:
	}
}

func (s *SSE) read(ctx context.Context, ready chan<- error) error {
	header := s.header.Clone()
	header["Accept"] = events
	response, err := s.roundTrip(s.bare(ctx, http.MethodGet, header))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || kind(response) != "text/event-stream" {
		discard(response)
		return statusError(response)
	}
	defer func() { _ = response.Body.Close() }()
	decoder := sse.NewDecoder(response.Body, s.max)
	for {
		event, err := decoder.Next()
		if err != nil {
			return streamError(ctx, err)
		}
		switch event.Name {
		case "endpoint":
			if s.to != nil {
				continue
			}
			to, err := s.url.Parse(string(event.Data))
			if err != nil || !sameOrigin(to, s.url) {
				return fmt.Errorf("%w: it wants messages to be sent to another place", upstream.ErrRefused)
			}
			s.to = to
			ready <- nil
		case "message":
			// Before the endpoint is known there is nothing to answer, and nowhere to send an answer to.
			if len(event.Data) > 0 && s.to != nil {
				if err := s.mux.Deliver(event.Data, nil); err != nil {
					return err
				}
			}
		}
	}
}

// sameOrigin reports whether two URLs have one scheme, host and port, however they are spelt (RFC 6454).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Hostname() != "" && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// send posts a message.
func (s *SSE) send(ctx context.Context, message []byte) error {
	response, err := s.post(ctx, s.to, s.postHeader(), message)
	if err != nil {
		return err
	}
	discard(response)
	if response.StatusCode >= http.StatusBadRequest {
		return statusError(response)
	}
	return nil
}

// Call implements upstream.Peer.
func (s *SSE) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	call, err := s.mux.Begin(ctx, req, from)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer call.End()
	if err := s.sendWithin(ctx, call.Message); err != nil && ctx.Err() == nil {
		select {
		case <-call.Done: // the answer overtook what came of the post, or the stream broke first
			return call.Reply()
		default:
			return upstream.Reply{}, err
		}
	}
	select {
	case <-call.Done:
		return call.Reply()
	case <-ctx.Done():
		s.late.send(s.ctx, call, s.send)
		return upstream.Reply{}, context.Cause(ctx)
	}
}

// sendWithin posts a message. It gives up once the conversation ended.
func (s *SSE) sendWithin(ctx context.Context, message []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	return s.send(ctx, message)
}

// Notify implements upstream.Peer.
func (s *SSE) Notify(ctx context.Context, method string, params json.RawMessage) error {
	if err := s.mux.Over(); err != nil {
		return err
	}
	return s.sendWithin(ctx, jsonrpc.Request(nil, method, params))
}

// Close implements upstream.Peer.
func (s *SSE) Close() error {
	s.close.Do(func() {
		s.mux.Fail(upstream.ErrClosed)
		s.cancel(upstream.ErrClosed)
		s.running.Wait()
		s.late.wait()
		s.mux.Wait()
	})
	return nil
}
