package mcphttp

import (
	"bytes"
	"context"
	"crypto/tls"
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
		if !validHeader(key, value) { // the value may be a secret: it is not named
			return nil, fmt.Errorf("%w: its header %q has a name or a value that HTTP can't carry", upstream.ErrNotSent, key)
		}
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

// postHeader is the header of a message, to be completed.
func (e *endpoint) postHeader() http.Header {
	header := e.header.Clone()
	header["Content-Type"] = jsonType
	header["Accept"] = both
	return header
}

// mirror adds the headers of a request that may travel to a server. What else stands among them is left out, lest a
// caller replaces a credential or the session.
func mirror(header, of http.Header) {
	for key, values := range of {
		if strings.HasPrefix(key, mcp.HeaderParamPrefix) || key == "Traceparent" || key == "Tracestate" || key == "Baggage" {
			header[key] = values
		}
	}
}

// post sends a message. Redirects are not followed: they would carry credentials elsewhere.
func (e *endpoint) post(ctx context.Context, to *url.URL, header http.Header, message []byte) (*http.Response, error) {
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	r := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(message)),
		// For the transport, which sends a request anew where a kept connection was closed before a byte of it was
		// written. Once one was, a POST is never repeated.
		GetBody: body,
	}).WithContext(ctx)
	r.Body, _ = body()
	return e.roundTrip(r)
}

// bare makes a request without a body.
func (e *endpoint) bare(ctx context.Context, method string, header http.Header) *http.Request {
	return (&http.Request{
		Method: method, URL: e.url, Host: e.url.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
}

func (e *endpoint) roundTrip(r *http.Request) (*http.Response, error) {
	response, err := e.transport.RoundTrip(r)
	if err == nil {
		return response, nil
	}
	if cause := context.Cause(r.Context()); cause != nil {
		return nil, cause
	}
	if unsent(r, err) {
		return nil, fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
	}
	return nil, fmt.Errorf("%w: %w", upstream.ErrLost, err)
}

// unsent reports whether a request failed before the server got any of it: no connection came about, or the
// transport refused to send it.
func unsent(r *http.Request, err error) bool {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"), errors.As(err, &certificate):
		return true
	case errors.As(err, &noTLS) && noTLS.Conn != nil: // the first that came was no TLS
		return true
	}
	for key, values := range r.Header {
		for _, value := range values {
			if !validHeader(key, value) {
				return true
			}
		}
	}
	return false
}

// validHeader reports whether HTTP can carry a header field.
func validHeader(key, value string) bool {
	for i := 0; i < len(key); i++ {
		if c := key[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return key != ""
}

// firstRead is how much memory an answer is given before any of it came.
const firstRead = 1 << 20

// body reads a whole answer.
func (e *endpoint) body(response *http.Response) ([]byte, error) {
	defer func() { _ = response.Body.Close() }()
	if response.ContentLength > int64(e.max) {
		return nil, upstream.ErrTooLarge
	}
	var b []byte
	var err error
	if n := response.ContentLength; n >= 0 && n <= firstRead {
		b = make([]byte, n)
		_, err = io.ReadFull(response.Body, b)
	} else { // a server that only announces much gets little
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

// What is read of an answer that is of no use any more, so that its connection can be used again.
const (
	drainBytes = 4 << 10
	drainTime  = 50 * time.Millisecond
)

// discard ends an answer, keeping its connection if little of it is left and comes soon.
func discard(response *http.Response) {
	if response.Body == http.NoBody {
		return
	}
	late := time.AfterFunc(drainTime, func() { _ = response.Body.Close() })
	_, _ = io.CopyN(io.Discard, response.Body, drainBytes)
	late.Stop()
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
