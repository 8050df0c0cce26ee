package mcphttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// Config is how a server is reached.
type Config struct {
	// URL of the MCP endpoint.
	URL string
	// Headers are sent with each request.
	Headers map[string]string
	// Transport carries the requests; [NewTransport]'s, shared by all servers, is meant.
	Transport http.RoundTripper
	// MaxMessage is the longest message that is read, in bytes; upstream.MaxMessage when 0.
	MaxMessage int
}

// NewTransport makes a transport for calls to servers: many kept connections, no compression, proxies by the
// usual environment variables.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
		MaxIdleConns:          4096,
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        16 << 10,
		WriteBufferSize:       16 << 10,
	}
}

// endpoint sends requests to one server.
type endpoint struct {
	url       *url.URL
	header    http.Header
	transport http.RoundTripper
	max       int
}

func newEndpoint(c Config) (*endpoint, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: its URL must be http or https", upstream.ErrNotSent)
	}
	e := &endpoint{url: u, header: http.Header{}, transport: c.Transport, max: c.MaxMessage}
	if user := u.User; user != nil {
		password, _ := user.Password()
		e.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
		u.User = nil
	}
	for key, value := range c.Headers {
		e.header.Set(key, value)
	}
	if e.transport == nil {
		e.transport = http.DefaultTransport
	}
	if e.max == 0 {
		e.max = upstream.MaxMessage
	}
	return e, nil
}

var (
	jsonType = []string{"application/json"}
	both     = []string{"application/json, text/event-stream"}
	events   = []string{"text/event-stream"}
)

// post sends a message. Redirects are not followed: they would carry credentials elsewhere.
func (e *endpoint) post(ctx context.Context, to *url.URL, message []byte, set func(http.Header)) (*http.Response, error) {
	header := e.header.Clone()
	header["Content-Type"] = jsonType
	header["Accept"] = both
	if set != nil {
		set(header)
	}
	r := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(message)), ContentLength: int64(len(message)),
	}).WithContext(ctx)
	return e.roundTrip(r)
}

func (e *endpoint) roundTrip(r *http.Request) (*http.Response, error) {
	response, err := e.transport.RoundTrip(r)
	if err == nil {
		return response, nil
	}
	if cause := context.Cause(r.Context()); cause != nil {
		return nil, cause
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return nil, fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
	}
	return nil, fmt.Errorf("%w: %w", upstream.ErrLost, err)
}

// body reads a whole answer.
func (e *endpoint) body(response *http.Response) ([]byte, error) {
	defer func() { _ = response.Body.Close() }()
	if response.ContentLength > int64(e.max) {
		return nil, upstream.ErrTooLarge
	}
	var b []byte
	var err error
	if response.ContentLength >= 0 {
		b = make([]byte, response.ContentLength)
		_, err = io.ReadFull(response.Body, b)
	} else {
		b, err = io.ReadAll(io.LimitReader(response.Body, int64(e.max)+1))
	}
	switch {
	case err != nil:
		if cause := context.Cause(response.Request.Context()); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("%w: %w", upstream.ErrLost, err)
	case len(b) > e.max:
		return nil, upstream.ErrTooLarge
	}
	return b, nil
}

// discard ends an answer that is of no use, keeping its connection if little of it is left.
func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	_ = response.Body.Close()
}

// kind is the answer's media type, without parameters.
func kind(response *http.Response) string {
	value := response.Header.Get("Content-Type")
	switch value {
	case "application/json", "text/event-stream":
		return value
	}
	t, _, _ := mime.ParseMediaType(value)
	return t
}

func statusError(response *http.Response) error {
	return &upstream.StatusError{Status: response.StatusCode, WWWAuthenticate: response.Header.Get("Www-Authenticate")}
}

// encodeHeader writes a value as a header that mirrors the body: plain where that is possible, else in the
// sentinel form of the specification (2026-07-28, streamable-http).
func encodeHeader(value string) string {
	plain := value == strings.Trim(value, " \t") && !(strings.HasPrefix(value, "=?base64?") && strings.HasSuffix(value, "?="))
	for i := 0; plain && i < len(value); i++ {
		plain = value[i] >= 0x20 && value[i] < 0x7f || value[i] == '\t'
	}
	if plain {
		return value
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}

// nameMember is the member of params that Mcp-Name mirrors.
func nameMember(method string) string {
	switch method {
	case mcp.MethodToolsCall, mcp.MethodPromptsGet:
		return "name"
	case mcp.MethodResourcesRead:
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId"
	}
	return ""
}
