package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// client is one that keeps a session, or none, for as long as it can.
type client interface {
	// name says what kind of client it is.
	name() string
	// at is the view that it calls.
	at() string
	// tools are those that it calls, the likely ones more than once.
	tools() []string
	// call calls a tool once: the text of its result, or errBroken, a *refusedError or what else went wrong.
	// progress hears of the call's progress.
	call(ctx context.Context, tool string, a arguments, progress func(float64)) (string, error)
	// close ends the client.
	close()
}

// errBroken: the connection broke, and the client could not come back to its call.
var errBroken = errors.New("the connection broke")

// errLost: and the client waited for the answer, which was lost with the connection.
var errLost = errors.New("its answer was lost")

// refusedError is a JSON-RPC error.
type refusedError struct {
	outcome string // data["dev.erlmcp/outcome"]
	message string
}

func (e *refusedError) Error() string { return e.message + " (" + e.outcome + ")" }

func refused(raw json.RawMessage) error {
	e := jsonrpc.ParseError(raw)
	o, _ := jsonrpc.GetString(e.Data, "dev.erlmcp/outcome")
	return &refusedError{o, e.Message}
}

// within bounds a call, and how long a client tries again.
const within = 45 * time.Second

var ids atomic.Int64

// Tools that a client calls in another way than by their name.
const (
	// keyed is write under an idempotency key: the client sends it again until it is answered.
	keyed = "keyed"
	// asked asks the client back before it answers.
	asked = "ask"
)

// load makes one client call one tool after the other until ctx ends.
func (t *tally) load(ctx context.Context, random *rand.Rand, c client) {
	by := fmt.Sprintf("%p", c)
	for ctx.Err() == nil {
		a := arguments{Call: fmt.Sprintf("c%d", ids.Add(1)), Steps: random.IntN(4), MS: 1 + random.IntN(120)}
		tools := c.tools()
		tool := tools[random.IntN(len(tools))]
		switch {
		case tool == keyed && t.mayKey():
			a.key = a.Call
		case tool == keyed:
			tool = "write"
		case tool == asked:
			a.Steps = 0
		}
		t.begin(by)
		made := carryOut(context.WithoutCancel(ctx), c, tool, a)
		made.by = by
		t.add(made)
	}
}

// carryOut makes a call, and makes it again as often as its tool allows when the connection breaks.
func carryOut(ctx context.Context, c client, tool string, a arguments) *call {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	made := &call{client: c.name(), view: c.at(), tool: tool, id: a.Call, began: time.Now(), work: time.Duration(a.Steps*a.MS) * time.Millisecond}
	for {
		made.tries++
		reported := 0.0
		text, err := c.call(ctx, made.upstreamTool(), a, func(progress float64) {
			if made.again() {
				return // a repeated call reports anew
			}
			if progress != reported+1 {
				made.disorder = fmt.Sprintf("progress %v after %v", progress, reported)
			}
			reported = progress
		})
		made.ended = time.Now()
		var no *refusedError
		switch {
		case err == nil && strings.HasPrefix(text, a.Call+" "):
			made.outcome = done
			if !made.again() && reported != float64(a.Steps) {
				made.disorder = fmt.Sprintf("%v of %d progress notifications came", reported, a.Steps)
			}
		case err == nil && tool == asked && strings.Contains(text, unheard):
			made.outcome, made.detail, made.lost, made.unheard = broken, text, true, true
		case err == nil:
			made.outcome, made.detail = failed, "someone else's answer: "+text
		case errors.Is(err, errBroken):
			made.lost = made.lost || errors.Is(err, errLost)
			made.outcome, made.detail = broken, err.Error()
			if made.again() && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond) // as a client would
				continue
			}
		case errors.As(err, &no) && no.outcome != "":
			made.outcome, made.detail = map[string]outcome{"unknown": unknown, "not_sent": notSent}[no.outcome], no.message
			if tool == keyed && made.outcome == notSent && ctx.Err() == nil {
				made.putOff = true
				time.Sleep(50 * time.Millisecond) // as a client would
				continue
			}
		default:
			made.outcome, made.detail = failed, err.Error()
		}
		return made
	}
}
