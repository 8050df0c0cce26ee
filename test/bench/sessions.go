package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"
)

// What sessions cost that do nothing: how fast they are opened, and what each takes while its client listens.

// openers is how many clients open sessions or connections at once.
const openers = 32

// OpenSessions opens legacy sessions at an endpoint, over kept connections, and says how long that took.
func OpenSessions(ctx context.Context, endpoint string, n int) (sessions []string, took time.Duration, err error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, 0, err
	}
	var mu sync.Mutex
	began := time.Now()
	opening, ctx := errgroup.WithContext(ctx)
	for i := range openers {
		opening.Go(func() error {
			conn, err := dial(ctx, target.Host)
			if err != nil {
				return err
			}
			defer conn.close()
			for range share(n, i) {
				if err := conn.within(time.Minute); err != nil {
					return err
				}
				session, err := handshake(conn, target)
				if err != nil {
					return err
				}
				mu.Lock()
				sessions = append(sessions, session)
				mu.Unlock()
			}
			return nil
		})
	}
	err = opening.Wait()
	return sessions, time.Since(began), err
}

// share is how many of n the i-th opener opens.
func share(n, i int) int { return (n + openers - 1 - i) / openers }

// Held are connections that stay open and say nothing.
type Held struct {
	mu    sync.Mutex
	close []func()
	reads sync.WaitGroup
}

func (h *Held) add(end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close = append(h.close, end)
}

// Close ends all connections.
func (h *Held) Close() {
	h.mu.Lock()
	ends := h.close
	h.close = nil
	h.mu.Unlock()
	for _, end := range ends {
		end()
	}
	h.reads.Wait()
}

// HoldStreams opens the GET stream of each session, on a connection of its own.
func HoldStreams(ctx context.Context, endpoint string, sessions []string) (*Held, error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	held := &Held{}
	opening, ctx := errgroup.WithContext(ctx)
	opening.SetLimit(openers)
	for _, session := range sessions {
		opening.Go(func() error { return held.stream(ctx, target, session) })
	}
	if err := opening.Wait(); err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

func (h *Held) stream(ctx context.Context, target *url.URL, session string) error {
	socket, err := new(net.Dialer).DialContext(ctx, "tcp4", target.Host)
	if err != nil {
		return err
	}
	h.add(func() { _ = socket.Close() })
	if err := socket.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(socket, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\n\r\n",
		target.RequestURI(), target.Host, session)
	if err != nil {
		return err
	}
	head := make([]byte, 1024)
	n, err := socket.Read(head)
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	if !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("opening a stream: %.100q", head[:n])
	}
	return socket.SetDeadline(time.Time{}) // comments that keep it alive lie in the kernel's buffer
}

// HoldWebSockets opens sessions on WebSockets.
func HoldWebSockets(ctx context.Context, endpoint string, n int) (*Held, error) {
	held := &Held{}
	opening, ctx := errgroup.WithContext(ctx)
	opening.SetLimit(openers)
	for range n {
		opening.Go(func() error { return held.webSocket(ctx, endpoint) })
	}
	if err := opening.Wait(); err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

func (h *Held) webSocket(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, endpoint, &websocket.DialOptions{Subprotocols: []string{"mcp"}})
	if err != nil {
		return fmt.Errorf("opening a WebSocket: %w", err)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	h.add(func() { _ = conn.CloseNow() })
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
	} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			return err
		}
	}
	if _, answer, err := conn.Read(ctx); err != nil || !bytes.Contains(answer, []byte(`"serverInfo"`)) {
		return errors.Join(err, fmt.Errorf("initialize: %.150s", answer))
	}
	h.reads.Go(func() { // answers pings
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				return
			}
		}
	})
	return nil
}

// Memory is what the process has of the machine's memory now, in bytes.
func (w Watched) Memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("the kernel does not say what process %d has", w.PID)
}

// Settled is Memory once it does not change by much any more: garbage that was made before is gone, or stays.
func (w Watched) Settled(ctx context.Context) (float64, error) {
	const still, calm = 1 << 20, 5
	last, err := w.Memory()
	for quiet := 0; err == nil && quiet < calm; {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		var now float64
		if now, err = w.Memory(); now < last+still && now > last-still {
			quiet++
		} else {
			quiet = 0
		}
		last = now
	}
	return last, err
}
