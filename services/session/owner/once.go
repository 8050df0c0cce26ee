package owner

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// keyed is a call that its client named by an idempotency key: sent again under the key, at whichever process, it gets
// the first one's result and is not carried out again.
type keyed struct {
	owner      *Owner
	key        store.ResultKey
	digest     string
	server     string
	repeatable bool
}

// Errors that answer calls under a key.
var (
	errBadKey    = jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "_meta[%q] must be a string of 1 to 256 bytes", mcp.MetaIdempotencyKey)
	errOtherCall = jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "_meta[%q] was used for another call; take a new key", mcp.MetaIdempotencyKey)
	errTooManyOf = upstream.NotSent("too many results are kept under idempotency keys; nothing was done, try again later")
	errNoStore   = upstream.NotSent("results can't be kept under idempotency keys now; nothing was done, try again later")
	errAbandoned = upstream.Lost("the call under this key was lost with the process that carried it out; whether it was done is unknown")
)

// awaitEvery is how often one looks whether a call that another one carries out is answered.
const awaitEvery = 100 * time.Millisecond

// keyed reads a call's key; nil where it has none.
func (o *Owner) keyed(principal, server, method string, params json.RawMessage) (*keyed, *jsonrpc.Error) {
	raw := jsonrpc.Get(params, "_meta", mcp.MetaIdempotencyKey)
	if raw == nil {
		return nil, nil
	}
	name, ok := jsonrpc.GetString(params, "_meta", mcp.MetaIdempotencyKey)
	k := &keyed{
		owner: o, key: store.ResultKey{Principal: principal, Key: name}, server: server,
		repeatable: o.config.Catalog.Current().Repeatable(server, method, params),
	}
	if !ok || k.key.Check() != nil {
		return nil, errBadKey
	}
	// Neither what a client says of itself nor what it brings when a call wants input makes another call of it.
	said := jsonrpc.Without(jsonrpc.Without(jsonrpc.Without(params, "_meta"), "inputResponses"), "requestState")
	h := sha256.New()
	for _, part := range []string{server, method, string(said)} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	k.digest = string(h.Sum(nil))
	return k, nil
}

// once carries a call out, unless it was: then it gives what that gave. A nil keyed carries it out.
func (k *keyed) once(ctx context.Context, carryOut func(context.Context) (upstream.Reply, error)) (upstream.Reply, error) {
	if k == nil {
		return carryOut(ctx)
	}
	holder := rand.Text()
	for {
		result, err := k.owner.config.Store.Reserve(ctx, k.key, k.digest, holder, k.repeatable)
		switch {
		case errors.Is(err, store.ErrOtherCall):
			return failed(errOtherCall), nil
		case errors.Is(err, store.ErrLimit):
			return failed(errTooManyOf), nil
		case err != nil:
			k.owner.log.WarnContext(ctx, "a call under a key was not begun", "error", err)
			return failed(errNoStore), nil
		}
		switch result.State {
		case store.Reserved:
			return k.carryOut(ctx, holder, carryOut)
		case store.Answered:
			return kept(result.Answer), nil
		case store.Abandoned:
			return failed(errAbandoned), nil
		case store.UnderWay:
		}
		select {
		case <-ctx.Done():
			return upstream.Reply{}, ctx.Err()
		case <-time.After(awaitEvery):
		}
	}
}

// carryOut carries out a call that is reserved, and keeps its answer.
func (k *keyed) carryOut(ctx context.Context, holder string, carryOut func(context.Context) (upstream.Reply, error)) (upstream.Reply, error) {
	stop := k.renew(holder)
	reply, err := carryOut(ctx)
	stop()
	cut := errors.Is(context.Cause(ctx), ErrStopped)
	var answer []byte // nil: as if there had been no call
	switch {
	case err == nil && (era.InputRequired(reply.Result) || era.AsksForURLs(reply.Error)): // it comes again with the input
	case err == nil:
		answer = keep(reply)
	case errors.Is(err, upstream.ErrNotSent), errors.Is(err, upstream.ErrSessionGone), k.repeatable:
	case cut: // and nobody goes on with it
		answer = keep(failed(errAbandoned))
	default:
		answer = keep(failed(upstream.Explain(k.server, err)))
	}
	// The client may be gone; whoever comes with the key wants the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	kept := k.owner.config.Store.Settle(ctx, k.key, holder, answer)
	if errors.Is(kept, store.ErrTooLarge) {
		kept = k.owner.config.Store.Settle(ctx, k.key, holder, keep(failed(errTooLarge)))
	}
	if kept != nil {
		k.owner.log.WarnContext(ctx, "a result was not kept under its key", "server", k.server, "error", kept)
	}
	return reply, err
}

// errTooLarge answers who comes with the key of a call that was carried out.
var errTooLarge = &jsonrpc.Error{
	Code: jsonrpc.CodeInternal, Message: "the call was carried out; its result was too large to be kept",
	Data: json.RawMessage(`{"` + upstream.OutcomeKey + `":"done"}`),
}

// renew says that the call is being carried out, until stop is called.
func (k *keyed) renew(holder string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(k.owner.config.Lease / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := k.owner.config.Store.Renew(ctx, k.key, holder); err != nil && ctx.Err() == nil {
					k.owner.log.Warn("a call's key was not renewed", "server", k.server, "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-over }
}

// keep and kept make bytes of an answer and back.
func keep(reply upstream.Reply) []byte {
	if reply.Error != nil {
		return append([]byte{'e'}, reply.Error...)
	}
	return append([]byte{'r'}, reply.Result...)
}

func kept(answer []byte) upstream.Reply {
	if len(answer) > 0 && answer[0] == 'r' {
		return upstream.Reply{Result: answer[1:]}
	}
	return upstream.Reply{Error: answer[1:]}
}
