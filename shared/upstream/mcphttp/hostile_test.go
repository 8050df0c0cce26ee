package mcphttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// secret stands in configured headers and must stand nowhere else.
const secret = "s3cr3t-t0ken"

// each runs a test for the peers that post to one endpoint; the server's function answers calls.
func each(t *testing.T, f func(*post), maxMessage int, test func(t *testing.T, s *site, peer upstream.Peer)) {
	config := func(s *site) mcphttp.Config {
		c := s.config()
		c.MaxMessage = maxMessage
		c.Headers = map[string]string{"Authorization": "Bearer " + secret}
		return c
	}
	t.Run("modern", func(t *testing.T) {
		s := script(t, f)
		test(t, s, newModern(t, config(s)))
	})
	t.Run("legacy", func(t *testing.T) {
		s := legacyScript(t, f)
		test(t, s, initialize(t, mcphttp.LegacyConfig{Config: config(s), NoStream: true}))
	})
}

func TestWhatIsNoAnswerIsToldApart(t *testing.T) {
	status := func(code int, kind, body string) func(*post) {
		return func(p *post) {
			p.w.Header().Set("Content-Type", kind)
			p.w.WriteHeader(code)
			_, _ = io.WriteString(p.w, body)
		}
	}
	for name, test := range map[string]struct {
		answer func(*post)
		want   error
		status int // of a StatusError
	}{
		"garbage as JSON":          {status(200, "application/json", "\x00garbage{"), upstream.ErrRefused, 0},
		"nothing as JSON":          {status(200, "application/json", ""), upstream.ErrRefused, 0},
		"JSON that is no JSON-RPC": {status(200, "application/json; charset=utf-8", `{"ok":true}`), upstream.ErrRefused, 0},
		"a request":                {func(p *post) { p.answer(`{"jsonrpc":"2.0","method":"n"}`) }, upstream.ErrRefused, 0},
		"another id":               {func(p *post) { p.answer(`{"jsonrpc":"2.0","id":4711,"result":{}}`) }, upstream.ErrRefused, 0},
		"the id as a string":       {func(p *post) { p.answer(`{"jsonrpc":"2.0","id":"%s","result":{}}`, p.id) }, upstream.ErrRefused, 0},
		"HTML 200":                 {status(200, "text/html", "<html>"), upstream.ErrRefused, 200},
		"no content type":          {status(200, "", `{"jsonrpc":"2.0","id":1,"result":{}}`), upstream.ErrRefused, 200},
		"HTML 502":                 {status(502, "text/html", "<html>bad gateway"), upstream.ErrRefused, 502},
		"JSON 500 of a framework":  {status(500, "application/json", `{"error":"oops"}`), upstream.ErrRefused, 500},
		"401":                      {status(401, "text/plain", "who?"), upstream.ErrRefused, 401},
		"403":                      {status(403, "application/json", `{}`), upstream.ErrRefused, 403},
		"202 to a call":            {status(202, "", ""), upstream.ErrRefused, 202},
		"an event stream with 500": {status(500, "text/event-stream", "data: {}\n\n"), upstream.ErrRefused, 500},
		"garbage on a stream":      {status(200, "text/event-stream", "data: {{{\n\n"), upstream.ErrRefused, 0},
		"a stream that ends":       {status(200, "text/event-stream", ": hello\n\n"), upstream.ErrLost, 0},
		"a stream cut in an event": {status(200, "text/event-stream", `data: {"jsonrpc":"2.0","id":`), upstream.ErrLost, 0},
		"a body cut short": {func(p *post) {
			p.w.Header().Set("Content-Length", "1000")
			p.answer(`{"jsonrpc":"2.0"`)
		}, upstream.ErrLost, 0},
		"a connection that breaks": {func(*post) { panic(http.ErrAbortHandler) }, upstream.ErrLost, 0},
		"a huge body":              {func(p *post) { p.result(`"` + strings.Repeat("x", 100_000) + `"`) }, upstream.ErrTooLarge, 0},
		"a huge body, announced": {func(p *post) {
			p.w.Header().Set("Content-Length", "100000000000")
			p.answer(`{`)
		}, upstream.ErrTooLarge, 0},
		"a huge event": {func(p *post) { p.event("data: %s", strings.Repeat("x", 100_000)) }, upstream.ErrTooLarge, 0},
		"a redirect": {func(p *post) {
			if p.r.URL.Path == "/elsewhere" {
				p.result(`{"followed":true}`)
				return
			}
			http.Redirect(p.w, p.r, "/elsewhere", http.StatusTemporaryRedirect)
		}, upstream.ErrRefused, 307},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, test.answer, 50_000, func(t *testing.T, _ *site, peer upstream.Peer) {
				_, err := peer.Call(t.Context(), toolCall(modernParams), nil)
				if !errors.Is(err, test.want) {
					t.Fatalf("%v, want %v", err, test.want)
				}
				for _, other := range []error{upstream.ErrNotSent, upstream.ErrSessionGone} {
					if errors.Is(err, other) {
						t.Errorf("%v says that nothing was done", err)
					}
				}
				var refused *upstream.StatusError
				if errors.As(err, &refused) != (test.status != 0) || refused != nil && refused.Status != test.status {
					t.Errorf("%v, want status %d", err, test.status)
				}
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
					t.Errorf("a credential stands in %v", err)
				}
			})
		})
	}
}

func TestAnErrorObjectIsAnAnswerWhateverItsStatus(t *testing.T) {
	for _, code := range []int{200, 400, 500} {
		each(t, func(p *post) {
			p.w.Header().Set("Content-Type", "application/json")
			p.w.WriteHeader(code)
			p.answer(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32020,"message":"m","data":{"n":12345678901234567890}}}`, p.id)
		}, 0, func(t *testing.T, _ *site, peer upstream.Peer) {
			reply, err := peer.Call(t.Context(), toolCall(modernParams), nil)
			if err != nil || string(reply.Error) != `{"code":-32020,"message":"m","data":{"n":12345678901234567890}}` || reply.Status != code {
				t.Errorf("%d: %s %d %v", code, reply.Error, reply.Status, err)
			}
		})
	}
}

func TestTheChallengeOfARefusalIsKept(t *testing.T) {
	each(t, func(p *post) {
		p.w.Header().Set("WWW-Authenticate", `Bearer scope="x"`)
		p.w.WriteHeader(http.StatusUnauthorized)
	}, 0, func(t *testing.T, _ *site, peer upstream.Peer) {
		_, err := peer.Call(t.Context(), toolCall(modernParams), nil)
		var refused *upstream.StatusError
		if !errors.As(err, &refused) || refused.WWWAuthenticate != `Bearer scope="x"` {
			t.Error(err)
		}
	})
}

func TestBytesPassAsTheyAre(t *testing.T) {
	result := `{"content":[ {"type":"text","text":"é\u00e9"} ],"big":12345678901234567890, "x-new":{"1e400":1e400}, "resultType":"complete"}`
	for name, answer := range map[string]func(*post){
		"JSON": func(p *post) { p.result(result) },
		"chunks": func(p *post) {
			p.w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(p.w).Flush()
			p.result(result)
		},
		"events": func(p *post) {
			p.event("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}", p.id, result)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var arguments string
			each(t, func(p *post) {
				arguments = string(p.message.Params)
				answer(p)
			}, 0, func(t *testing.T, _ *site, peer upstream.Peer) {
				sent := `{"name":"t","arguments":{"big": 12345678901234567890,"u":"\u00e9é"},"unknown":[1.10]}`
				reply, err := peer.Call(t.Context(), toolCall(sent), nil)
				if err != nil || string(reply.Result) != result {
					t.Errorf("%s %v", reply.Result, err)
				}
				if arguments != sent {
					t.Errorf("sent %s", arguments)
				}
			})
		})
	}
}

func TestARefusedConnectionMeansNotSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	transport := mcphttp.NewTransport()
	config := mcphttp.Config{URL: "http://" + listener.Addr().String(), Transport: transport, Headers: map[string]string{"X-Key": secret}}
	_, err = newModern(t, config).Call(t.Context(), toolCall(modernParams), nil)
	_, legacyErr := mcphttp.Initialize(t.Context(), mcphttp.LegacyConfig{Config: config})
	_, sseErr := mcphttp.OpenSSE(t.Context(), mcphttp.LegacyConfig{Config: config})
	for _, err := range []error{err, legacyErr, sseErr} {
		if !errors.Is(err, upstream.ErrNotSent) || strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	}
}

func TestTLSThatFailsMeansNotSent(t *testing.T) {
	plain := script(t, func(p *post) { p.result(`{}`) })
	for name, url := range map[string]string{"no TLS there": strings.Replace(plain.URL, "http:", "https:", 1), "an unknown certificate": tlsServer(t)} {
		_, err := newModern(t, mcphttp.Config{URL: url, Transport: plain.transport}).Call(t.Context(), toolCall(modernParams), nil)
		if !errors.Is(err, upstream.ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAURLThatIsNoneIsRefusedWithoutItsSecrets(t *testing.T) {
	for _, url := range []string{"", "ftp://host/", "http://", "mcp", "http://user:" + secret + "@%zz/", "http://host:" + secret + "/"} {
		_, err := mcphttp.NewModern(mcphttp.Config{URL: url})
		if !errors.Is(err, upstream.ErrNotSent) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, header := range []map[string]string{{"X-Key": secret + "\r\nX-Injected: 1"}, {"X Key": secret}, {"": secret}, {"X-Key": "\x00" + secret}} {
		_, err := mcphttp.NewModern(mcphttp.Config{URL: "http://host/", Headers: header})
		if !errors.Is(err, upstream.ErrNotSent) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", header, err)
		}
	}
}

func TestCredentialsInTheURLBecomeAHeader(t *testing.T) {
	s := script(t, func(p *post) {
		user, password, _ := p.r.BasicAuth()
		p.result(fmt.Sprintf("%q", user+" "+password))
	})
	config := s.config()
	config.URL = strings.Replace(config.URL, "http://", "http://me:"+secret+"@", 1)
	reply, err := newModern(t, config).Call(t.Context(), toolCall(modernParams), nil)
	if err != nil || string(reply.Result) != `"me `+secret+`"` {
		t.Error(string(reply.Result), err)
	}
}

// A call must end with its context though the server sends and sends.
func TestAnEndlessStreamEndsWithTheContext(t *testing.T) {
	each(t, func(p *post) {
		for p.r.Context().Err() == nil {
			p.event(": still here\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}")
		}
	}, 0, func(t *testing.T, _ *site, peer upstream.Peer) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &ear{told: make(chan string)}
		done := call(ctx, peer, e)
		<-e.told
		go func() {
			for range e.told { // until the call is over
			}
		}()
		cancel()
		if got := <-done; !errors.Is(got.err, context.Canceled) {
			t.Error(got.err)
		}
		close(e.told)
	})
}

// A server may keep the stream open behind the answer, or never end an answer that is an error.
func TestAnAnswerIsNotWaitedForBeyondItsEnd(t *testing.T) {
	for name, answer := range map[string]func(*post){
		"stream": func(p *post) { p.event(`data: {"jsonrpc":"2.0","id":%s,"result":{}}`, p.id) },
		"error": func(p *post) {
			p.w.Header().Set("Content-Type", "text/html")
			p.w.WriteHeader(http.StatusBadGateway)
			_ = http.NewResponseController(p.w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(p *post) {
				answer(p)
				<-p.r.Context().Done()
			}, 0, func(t *testing.T, _ *site, peer upstream.Peer) {
				if _, err := peer.Call(t.Context(), toolCall(modernParams), nil); (err == nil) != (name == "stream") {
					t.Error(err)
				}
			})
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, answer := range map[string]func(*post){
		"JSON":   func(p *post) { p.result(`{}`) },
		"stream": func(p *post) { p.event(`data: {"jsonrpc":"2.0","id":%s,"result":{}}`, p.id) },
		"stream with a tail": func(p *post) {
			p.event(`data: {"jsonrpc":"2.0","id":%s,"result":{}}`, p.id)
			p.event(": bye")
		},
		"error":   func(p *post) { p.answer(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":"m"}}`, p.id) },
		"502":     func(p *post) { http.Error(p.w, "bad gateway", http.StatusBadGateway) },
		"garbage": func(p *post) { p.answer("{{{") },
		"401":     func(p *post) { p.w.WriteHeader(http.StatusUnauthorized) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, answer, 0, func(t *testing.T, s *site, peer upstream.Peer) {
				for range 20 {
					_, _ = peer.Call(t.Context(), toolCall(modernParams), nil)
				}
				if n := s.accepted.Load(); n > 2 { // a busy machine may miss one
					t.Errorf("%d connections for 20 calls", n)
				}
			})
		})
	}
}

// A kept connection that the server closed meanwhile must cost no call: nothing was written to it.
func TestACallSurvivesAConnectionThatWasClosedWhileIdle(t *testing.T) {
	each(t, func(p *post) { p.result(`{}`) }, 0, func(t *testing.T, s *site, peer upstream.Peer) {
		for range 50 {
			if _, err := peer.Call(t.Context(), toolCall(modernParams), nil); err != nil && !errors.Is(err, upstream.ErrLost) {
				t.Fatal(err)
			}
			s.CloseClientConnections()
		}
	})
}
