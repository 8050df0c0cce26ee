package tcp

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/gateway/transport/channel"
)

// pipe is a connection of little patience, and its client's end, which write writes to until the connection ends.
func pipe(t *testing.T, patience time.Duration, write func(client net.Conn)) *conn {
	t.Helper()
	ours, client := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); write(client) }()
	t.Cleanup(func() { _ = ours.Close(); _ = client.Close(); <-done })
	return newConn(ours, patience)
}

// A client that trickles its first message is not waited for, however steadily it does.
func TestTheFirstMessageMustComeWholeAndSoon(t *testing.T) {
	const patience = 300 * time.Millisecond
	c := pipe(t, patience, func(client net.Conn) {
		for {
			if _, err := client.Write([]byte("{")); err != nil {
				return
			}
			time.Sleep(patience / 30)
		}
	})
	began := time.Now()
	if _, err := c.firstLine(1 << 20); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*patience {
		t.Errorf("it was waited for for %v", took)
	}
}

// Empty lines are no message.
func TestEmptyLinesBuyNoTime(t *testing.T) {
	c := pipe(t, 300*time.Millisecond, func(client net.Conn) {
		for {
			if _, err := client.Write([]byte("\n")); err != nil {
				return
			}
		}
	})
	if _, err := c.firstLine(1 << 20); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// Of a client that is not known yet little is kept; later its messages may be long, and pauses between them too.
func TestTheFirstMessageIsShort(t *testing.T) {
	const patience = 200 * time.Millisecond
	long := strings.Repeat("x", maxFirst+1) + "\n"
	c := pipe(t, patience, func(client net.Conn) { _, _ = client.Write([]byte(long)) })
	if _, err := c.firstLine(1 << 20); !errors.Is(err, channel.ErrTooLong) {
		t.Error(err)
	}
	c = pipe(t, patience, func(client net.Conn) {
		_, _ = client.Write([]byte("first\n"))
		time.Sleep(3 * patience)
		_, _ = client.Write([]byte(long))
	})
	if line, err := c.firstLine(1 << 20); string(line) != "first" || err != nil {
		t.Fatalf("%s, %v", line, err)
	}
	if line, err := c.Read(); len(line) != maxFirst+1 || err != nil {
		t.Errorf("%d bytes, %v", len(line), err)
	}
	if c = pipe(t, patience, func(client net.Conn) { _, _ = client.Write([]byte("12345678\n")) }); c != nil {
		if _, err := c.firstLine(7); !errors.Is(err, channel.ErrTooLong) {
			t.Errorf("a bound below that of first messages: %v", err)
		}
	}
}
