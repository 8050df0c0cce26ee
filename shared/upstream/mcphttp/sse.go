package mcphttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

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

	cancel  context.CancelFunc
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
	s := &SSE{endpoint: e}
	s.mux = mux.New(config.Listener, s.send)
	var streaming context.Context
	streaming, s.cancel = context.WithCancel(context.Background())
	ready := make(chan error, 1)
	s.running.Go(func() { s.stream(streaming, ready) })
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

// Result is the server's InitializeResult.
func (s *SSE) Result() json.RawMessage { return s.result }

// stream reads the server's stream to its end. ready hears whether it opened and told where to post.
func (s *SSE) stream(ctx context.Context, ready chan<- error) {
	err := s.read(ctx, ready)
	s.mux.Fail(err)
	select {
	case ready <- err:
	default:
	}
}

func (s *SSE) read(ctx context.Context, ready chan<- error) error {
	header := s.header.Clone()
	header["Accept"] = events
	response, err := s.roundTrip((&http.Request{
		Method: http.MethodGet, URL: s.url, Host: s.url.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx))
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
			if err != nil || to.Scheme != s.url.Scheme || to.Host != s.url.Host {
				return fmt.Errorf("%w: it wants messages to be sent to another place", upstream.ErrRefused)
			}
			s.to = to
			ready <- nil
		case "message":
			if len(event.Data) > 0 {
				if err := s.mux.Deliver(event.Data, nil); err != nil {
					return err
				}
			}
		}
	}
}

// send posts a message.
func (s *SSE) send(ctx context.Context, message []byte) error {
	response, err := s.post(ctx, s.to, message, nil)
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
		return upstream.Reply{}, upstream.ErrClosed
	}
	defer call.End()
	if err := s.send(ctx, call.Message); err != nil {
		return upstream.Reply{}, err
	}
	select {
	case <-call.Done:
		return call.Reply()
	case <-ctx.Done():
		late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.send(late, call.Cancelled("the caller gave up"))
		return upstream.Reply{}, context.Cause(ctx)
	}
}

// Notify implements upstream.Peer.
func (s *SSE) Notify(ctx context.Context, method string, params json.RawMessage) error {
	return s.send(ctx, jsonrpc.Request(nil, method, params))
}

// Close implements upstream.Peer.
func (s *SSE) Close() error {
	s.close.Do(func() {
		s.mux.Fail(upstream.ErrClosed)
		s.cancel()
		s.running.Wait()
		s.mux.Wait()
	})
	return nil
}
