package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// line is a connection that carries messages both ways. What is received on it is over when received is closed.
type line interface {
	// send sends a message. errBroken where it may have been sent in vain; other errors mean that it was not.
	send(ctx context.Context, message []byte) error
	received() <-chan []byte
	// untouched reports, once received is closed, that the gateway said on leaving that it took nothing that it did not
	// answer.
	untouched() bool
	close()
}

// duplex is a client of a transport whose one connection carries everything. When it breaks, a legacy client comes back
// to its session with another one.
type duplex struct {
	transport, view, version string
	// dial connects, in the session of a token where the transport names it there.
	dial func(ctx context.Context, token string) (line, error)
	// resumes says that dial takes up the session; else initialize does.
	resumes bool
	// first is added to the first message's _meta.
	first string

	line    line
	session string
	opened  bool // the session was initialized
	id      int
}

func (c *duplex) name() string { return c.transport + " " + c.version }

func (c *duplex) at() string { return c.view }

func (c *duplex) tools() []string { return []string{"write", "write", "read", "put", keyed} }

func (c *duplex) close() {
	if c.line != nil {
		c.line.close()
		c.line = nil
	}
}

// connect opens a connection, and the session or the one before on it.
func (c *duplex) connect(ctx context.Context) error {
	l, err := c.dial(ctx, c.session)
	if err != nil {
		return err
	}
	c.line = l
	if c.version == modernVersion || c.resumes && c.opened {
		return nil
	}
	meta := c.first
	if c.session != "" {
		meta += fmt.Sprintf(`,"dev.erlmcp/session":%q`, c.session)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a gateway that is frozen now may not be once more
	defer cancel()
	err = l.send(ctx, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"initialize","method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"duplex","version":"1"},"_meta":{"x":1%s}}}`, c.version, meta))
	if err == nil {
		var answer jsonrpc.Message
		if answer, err = c.until(ctx, `"initialize"`, func(jsonrpc.Message) {}); err == nil {
			session, _ := jsonrpc.GetString(answer.Result, "_meta", "dev.erlmcp/session")
			switch {
			case answer.Error != nil:
				err = refused(answer.Error)
			case c.resumes:
			case c.session != "" && session != c.session:
				return fmt.Errorf("the session was lost: %q, and before %q", session, c.session)
			default:
				c.session = session
			}
		}
	}
	if err != nil {
		c.close()
		return fmt.Errorf("%w: initialize: %w", errBroken, err)
	}
	c.opened = true
	return nil
}

// until reads up to the answer to a request. errBroken.
func (c *duplex) until(ctx context.Context, id string, other func(jsonrpc.Message)) (jsonrpc.Message, error) {
	for {
		select {
		case data, ok := <-c.line.received():
			if !ok {
				return jsonrpc.Message{}, errBroken
			}
			m, err := jsonrpc.Parse(data)
			switch {
			case err != nil:
				return m, err
			case m.IsResponse() && string(m.ID) == id:
				return m, nil
			default:
				other(m)
			}
		case <-ctx.Done():
			return jsonrpc.Message{}, ctx.Err()
		}
	}
}

// lateTime is how long a client that came back to its session waits for an answer: it may have been lost with the
// connection, for these transports have no event ids.
const lateTime = 10 * time.Second

func (c *duplex) call(ctx context.Context, tool string, a arguments, progress func(float64)) (string, error) {
	c.id++
	given, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	meta := fmt.Sprintf(`"progressToken":%d`, c.id)
	if c.version == modernVersion {
		meta += `,"io.modelcontextprotocol/protocolVersion":"` + c.version + `","io.modelcontextprotocol/clientCapabilities":{}` + c.first
	}
	meta += a.meta()
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{%s}}}`, c.id, tool, given, meta)
	if err := c.submit(ctx, body); err != nil {
		return "", err
	}
	reported := 0.0
	hear := func(m jsonrpc.Message) {
		var p float64
		if m.Method == "notifications/progress" && string(jsonrpc.Get(m.Params, "progressToken")) == fmt.Sprint(c.id) &&
			json.Unmarshal(jsonrpc.Get(m.Params, "progress"), &p) == nil {
			reported = p
			progress(p)
		}
	}
	m, err := c.until(ctx, fmt.Sprint(c.id), hear)
	for errors.Is(err, errBroken) && c.line.untouched() || err == nil && sendsOn(m) {
		c.close()
		if err := c.submit(ctx, body); err != nil {
			return "", err
		}
		m, err = c.until(ctx, fmt.Sprint(c.id), hear)
	}
	if errors.Is(err, errBroken) {
		c.close()
		for i := int(reported); i < a.Steps; i++ { // what was sent and not read is lost
			progress(float64(i + 1))
		}
		if c.version == modernVersion {
			return "", err
		}
		if err := c.reconnect(ctx); err != nil {
			return "", err
		}
		late, cancel := context.WithTimeout(ctx, lateTime)
		defer cancel()
		if m, err = c.until(late, fmt.Sprint(c.id), func(jsonrpc.Message) {}); err != nil {
			return "", fmt.Errorf("%w: %w: %w", errBroken, errLost, err)
		}
	}
	if err != nil {
		c.close()
		return "", err
	}
	return answerOf(m)
}

// sendsOn reports whether an answer says that the request was not carried out, for the connection ends.
func sendsOn(m jsonrpc.Message) bool {
	return m.Error != nil && strings.Contains(jsonrpc.ParseError(m.Error).Message, "send it again on a new connection")
}

// submit sends a message, on another connection where this one ended.
func (c *duplex) submit(ctx context.Context, message []byte) error {
	for {
		if c.line == nil {
			if err := c.reconnect(ctx); err != nil {
				return err
			}
		}
		err := c.line.send(ctx, message)
		if err == nil {
			return nil
		}
		c.close()
		if errors.Is(err, errBroken) || ctx.Err() != nil {
			return err
		}
	}
}

// reconnect connects until it works.
func (c *duplex) reconnect(ctx context.Context) error {
	for {
		err := c.connect(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond): // as a client would
		case <-ctx.Done():
			return fmt.Errorf("no gateway takes the client: %w", err)
		}
	}
}
