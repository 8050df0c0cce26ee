package bench

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// patience is how long a client waits for an answer before it counts an error.
const patience = 10 * time.Second

// client makes one call after the other on one connection, as fast as the answers come.
type client struct {
	kind    Case
	target  *url.URL
	checker *checker
	number  uint64 // of the next call; no two clients share any

	conn    *conn // nil: to be opened
	request *request

	took   []time.Duration
	errors tally
}

// open connects, and for a legacy client begins a session.
func (c *client) open(ctx context.Context) error {
	conn, err := dial(ctx, c.target.Host)
	if err != nil {
		return err
	}
	if err = conn.within(patience); err == nil {
		session := ""
		if c.kind.Era == Legacy {
			session, err = handshake(conn, c.target)
		}
		c.request = newRequest(c.kind, c.target, session)
	}
	if err != nil {
		conn.close()
		return err
	}
	c.conn = conn
	return nil
}

func handshake(conn *conn, target *url.URL) (session string, err error) {
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"bench","version":"1"}}}`
	answer, err := conn.do(post(target, "", initialize).bytes)
	if err != nil {
		return "", fmt.Errorf("initialize: %w", err)
	}
	if answer.status != 200 || answer.session == "" {
		return "", fmt.Errorf("initialize: status %d, session %q: %.150s", answer.status, answer.session, answer.body)
	}
	header := "MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: " + answer.session + "\r\n"
	done, err := conn.do(post(target, header, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).bytes)
	if err != nil {
		return "", fmt.Errorf("notifications/initialized: %w", err)
	}
	if done.status != 202 {
		return "", fmt.Errorf("notifications/initialized: status %d: %.150s", done.status, done.body)
	}
	return answer.session, nil
}

// run makes calls until the given moment, or until ctx ends.
func (c *client) run(ctx context.Context, until time.Time) {
	if c.conn != nil {
		if err := c.conn.within(time.Until(until) + patience); err != nil {
			c.fail(err)
		}
	}
	for ctx.Err() == nil && time.Now().Before(until) {
		if c.conn == nil && !c.reopen(ctx, until) {
			return
		}
		c.call()
	}
}

func (c *client) call() {
	number := c.number
	c.number++
	began := time.Now()
	answer, err := c.conn.do(c.request.fill(number))
	took := time.Since(began)
	if err == nil {
		if err = c.checker.check(answer, number); err != nil {
			c.errors.add(err) // the connection is whole
			return
		}
		c.took = append(c.took, took)
		return
	}
	c.fail(err)
}

// fail counts an error and gives up the connection.
func (c *client) fail(err error) {
	c.errors.add(err)
	c.close()
}

// reopen connects again after a failure, and goes easy on a server that is in trouble.
func (c *client) reopen(ctx context.Context, until time.Time) bool {
	for {
		err := c.open(ctx)
		if err == nil {
			err = c.conn.within(time.Until(until) + patience)
		}
		if err == nil {
			return true
		}
		c.errors.add(fmt.Errorf("connect: %w", err))
		rest := time.NewTimer(10 * time.Millisecond)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return false
		}
		if !time.Now().Before(until) {
			return false
		}
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}
