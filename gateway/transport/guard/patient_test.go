package guard_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/gateway/transport/guard"
	"erlmcp.dev/shared/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience of the server that is tested, in which a client on the same machine says something.
const patience = 300 * time.Millisecond

// patient serves what the guard admits: it answers with the body, after a while.
func patient(t *testing.T, g *guard.Guard, while time.Duration) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(guard.Patient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := g.Admit(w, r); !ok {
			return
		}
		got, ok := g.Body(w, r)
		if !ok {
			return
		}
		select {
		case <-time.After(while):
			_, _ = w.Write(got)
		case <-r.Context().Done():
		}
	}), patience))
	t.Cleanup(s.Close)
	return s
}

// dial opens a connection, and says something on it.
func dial(t *testing.T, s *httptest.Server, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

const head = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

func TestABodyThatDoesNotComeHoldsNoConnection(t *testing.T) {
	for what, c := range map[string]struct {
		authn access.Authenticator
		said  string
		want  int
	}{
		"of a stranger":              {access.Chain{}, "Content-Length: 1000\r\n\r\n", http.StatusUnauthorized},
		"of a stranger, in chunks":   {access.Chain{}, "Transfer-Encoding: chunked\r\n\r\n", http.StatusUnauthorized},
		"of a stranger, in part":     {access.Chain{}, "Content-Length: 1000\r\n\r\n{", http.StatusUnauthorized},
		"of a client":                {access.Anonymous{}, "Content-Length: 1000\r\n\r\n", http.StatusBadRequest},
		"of a client, in part":       {access.Anonymous{}, "Content-Length: 1000\r\n\r\n{", http.StatusBadRequest},
		"of a client, within chunks": {access.Anonymous{}, "Transfer-Encoding: chunked\r\n\r\n5\r\nab", http.StatusBadRequest},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, patient(t, &guard.Guard{Authenticator: c.authn}, 0), head+c.said)
			in := bufio.NewReader(conn)
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, response.Body)
			if response.StatusCode != c.want || err != nil {
				t.Errorf("got %s, %v", response.Status, err)
			}
			if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
				t.Errorf("the connection stays: %q, %v", rest, err)
			}
		})
	}
}

func TestABodyMayTakeLongAsLongAsItComes(t *testing.T) {
	conn := dial(t, patient(t, &guard.Guard{Authenticator: access.Anonymous{}}, 0), head+"Content-Length: 12\r\n\r\n")
	tick := time.NewTicker(patience / 4)
	defer tick.Stop()
	for range 12 { // three times as long as it may pause
		<-tick.C
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(response.Body); string(got) != strings.Repeat("x", 12) || err != nil {
		t.Errorf("got %s: %q, %v", response.Status, got, err)
	}
}

// Once a body came, its time is over: the answer may take as long as it likes, and so may the next request.
func TestAnAnswerMayTakeLongerThanItsBodyMay(t *testing.T) {
	for _, framing := range []string{"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
		conn := dial(t, patient(t, &guard.Guard{Authenticator: access.Anonymous{}}, 3*patience), "")
		in := bufio.NewReader(conn)
		for i := range 2 {
			if _, err := fmt.Fprint(conn, head, framing); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(i, err)
			}
			if got, err := io.ReadAll(response.Body); string(got) != "{}" || err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%d: got %s: %q, %v", i, response.Status, got, err)
			}
		}
	}
}
