package mux_test

import (
	"errors"
	"strings"
	"testing"

	"erlmcp.dev/shared/upstream"
)

const wantsLogs = `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}}`

// Log messages of the modern era name no request. Only who asked for them may get them, and only where there is no
// doubt whose they are.
func TestALogMessageGoesToTheOneCallThatAskedForLogs(t *testing.T) {
	standing := &ear{}
	m, _ := conversation(t, standing)
	say := func(n int) {
		deliver(t, m, nil, `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}`, n)
	}
	quiet := &ear{}
	begin(t, m, `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`, quiet)
	say(1) // nobody asked
	first, second := &ear{}, &ear{}
	one := begin(t, m, wantsLogs, first)
	say(2)
	two := begin(t, m, wantsLogs, second)
	say(3) // whose?
	one.End()
	say(4)
	two.End()
	say(5)
	for name, test := range map[string]struct {
		ear  *ear
		want string
	}{"who did not ask": {quiet, ""}, "the first": {first, "2"}, "the second": {second, "4"}, "the standing listener": {standing, "1 3 5"}} {
		var got []string
		for _, heard := range test.ear.all() {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(heard, `notifications/message {"data":`), "}"))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s heard %q, want %q", name, got, test.want)
		}
	}
}

// On a stream of bytes a modern server ends a subscription by cancelling the request that opened it.
func TestASubscriptionThatTheServerCancelsIsOver(t *testing.T) {
	m, _ := conversation(t, nil)
	other := begin(t, m, `{}`, nil)
	c, err := m.Begin(t.Context(), upstream.Request{Method: "subscriptions/listen"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.End()
	cancelled := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`
	deliver(t, m, nil, cancelled, id(other)) // an id of the server's own, for all we know
	deliver(t, m, nil, cancelled, id(c))
	select {
	case <-c.Done:
	default:
		t.Fatal("it goes on")
	}
	if _, err := c.Reply(); !errors.Is(err, upstream.ErrLost) {
		t.Error(err)
	}
	select {
	case <-other.Done:
		t.Error("a server can't cancel a call")
	default:
	}
}
