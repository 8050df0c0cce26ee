package takeover_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/gateway/transport/takeover"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site answers each request with a stream: what comes from say, until it is closed or the client is gone.
type site struct {
	*httptest.Server
	streams takeover.Streams
	say     chan string
	ended   chan error // of each stream: how its context ended
	plain   chan bool  // a request whose connection was not taken
}

func newSite(t *testing.T, http2 bool) *site {
	t.Helper()
	s := &site{say: make(chan string), ended: make(chan error, 10), plain: make(chan bool, 10)}
	serve := func(ctx context.Context, w http.ResponseWriter) {
		for {
			select {
			case text, ok := <-s.say:
				if !ok {
					s.ended <- nil
					return
				}
				if _, err := io.WriteString(w, text); err != nil {
					s.ended <- err
					return
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					s.ended <- err
					return
				}
			case <-ctx.Done():
				s.ended <- ctx.Err()
				return
			}
		}
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if !s.streams.Serve(w, r, func(response *takeover.Response) { serve(response.Context(), response) }) {
			s.plain <- true
			serve(r.Context(), w)
		}
	}))
	if s.EnableHTTP2 = http2; http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *site) get(ctx context.Context, t *testing.T) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// wait fails the test rather than to wait for ever.
func wait[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happens")
		panic("unreachable")
	}
}

func TestAStreamIsWhole(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", http2), func(t *testing.T) {
			s := newSite(t, http2)
			long := strings.Repeat("x", 100_000)
			go func() {
				for _, text := range []string{"one", "", "two", long} {
					s.say <- text
				}
				close(s.say)
			}()
			response := s.get(t.Context(), t)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != "onetwo"+long {
				t.Errorf("got %d bytes, %v", len(body), err)
			}
			if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Date") == "" {
				t.Errorf("got %s with %v", response.Status, response.Header)
			}
			if err := wait(t, s.ended); err != nil {
				t.Error(err)
			}
			if taken := len(s.plain) == 0; taken == http2 {
				t.Errorf("taken over: %v", taken)
			}
		})
	}
}

func TestAStreamEndsWithItsClient(t *testing.T) {
	s := newSite(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { s.say <- "here" }()
	response := s.get(ctx, t)
	defer response.Body.Close()
	cancel()
	if err := wait(t, s.ended); err == nil {
		t.Error("the stream ended by itself")
	}
}

// What a client sends behind its request is neither answered nor kept, and does not end the stream.
func TestWhatAClientSaysOnAStreamIsNoRequest(t *testing.T) {
	s := newSite(t, false)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n"
	if _, err := io.WriteString(conn, request+request); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.say <- "one"
		s.say <- "two"
		close(s.say)
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "onetwo" || !response.Close {
		t.Errorf("got %q, %v, closes %v", body, err, response.Close)
	}
	if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
		t.Errorf("behind the stream came %q, %v", rest, err)
	}
	wait(t, s.ended)
}

// Reading what nobody asked for costs more than sending it.
func TestAClientThatDoesNotStopTalkingIsGone(t *testing.T) {
	s := newSite(t, false)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: here\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, strings.Repeat("x", 1<<20)) }() // until it is cut off
	if err := wait(t, s.ended); err == nil {
		t.Error("the stream ended by itself")
	}
}

// pipe is a connection whose other end reads nothing, as a ResponseWriter.
type pipe struct {
	http.ResponseWriter
	net.Conn
}

func (p pipe) Header() http.Header { return http.Header{} }

func (p pipe) Write(b []byte) (int, error) { return p.ResponseWriter.Write(b) }

func (p pipe) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return p.Conn, bufio.NewReadWriter(bufio.NewReader(p.Conn), bufio.NewWriter(p.Conn)), nil
}

func TestAClientThatDoesNotEvenReadTheHeaderHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		began := time.Now()
		var streams takeover.Streams
		if !streams.Serve(pipe{httptest.NewRecorder(), server}, r, func(response *takeover.Response) { response.WriteHeader(http.StatusOK) }) {
			t.Fatal("not taken over")
		}
		streams.Shutdown(t.Context())
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAClientWithoutChunksIsServedByTheServer(t *testing.T) {
	s := newSite(t, false)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wait(t, s.plain)
	s.say <- "one"
	close(s.say)
	if all, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(all), "\r\n\r\none") {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestShutdownWaitsForStreams(t *testing.T) {
	s := newSite(t, false)
	go func() { s.say <- "here" }()
	response := s.get(t.Context(), t)
	defer response.Body.Close()
	over, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.streams.Shutdown(over); close(done) }()
	select {
	case <-done:
		t.Error("it did not wait")
	case <-time.After(20 * time.Millisecond): // it would be over at once
	}
	close(s.say)
	wait(t, done)
	cancel()

	late := newSite(t, false)
	late.streams.Shutdown(over)
	again := make(chan *http.Response, 1)
	go func() { again <- late.get(t.Context(), t) }()
	wait(t, late.plain) // none is taken any more
	late.say <- "x"
	close(late.say)
	_ = wait(t, again).Body.Close()
}

func TestShutdownHasAnEnd(t *testing.T) {
	s := newSite(t, false)
	go func() { s.say <- "here" }()
	response := s.get(t.Context(), t)
	defer response.Body.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.streams.Shutdown(over)
	close(s.say)
	wait(t, s.ended)
}
