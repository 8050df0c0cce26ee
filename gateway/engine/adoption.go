package engine

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
)

// How long a client is made to wait until another owner has adopted its session, and how often that is looked for.
// An owner that died without a word is replaced at the latest when its lease runs out (5 s).
const (
	adoptionTime  = 15 * time.Second
	adoptionFirst = 20 * time.Millisecond
	adoptionEvery = 200 * time.Millisecond
	// askTime bounds one question to an owner, whichever is asked: it may be frozen.
	askTime = 2 * time.Second
)

// errSilent: an owner neither answers nor ends its connections, as one that was frozen or cut off.
var errSilent = status.Error(codes.Unavailable, "the session's owner fell silent")

// adoption waits for the next owner of a session whose owner is gone.
type adoption struct {
	since time.Time
	pause time.Duration
}

// next finds out who owns the session now. It is an error when the session is gone, nobody can say within
// adoptionTime, or ctx ended; then it is cause, or what says more.
func (a *adoption) next(ctx context.Context, s *Session, cause error) error {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	for {
		if a.pause > 0 {
			select {
			case <-ctx.Done():
				return cause
			case <-time.After(a.pause):
			}
		}
		a.pause = min(max(2*a.pause, adoptionFirst), adoptionEvery)
		if time.Since(a.since) > adoptionTime {
			return cause
		}
		err := s.relocate(ctx, cause)
		if err == nil {
			return nil
		}
		if !absent(err) && !overdue(ctx, err) {
			return err
		}
	}
}

// relocate asks anew who owns the session. cause is what the owner that was known answered.
func (s *Session) relocate(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	unreachable := ""
	if status.Code(cause) == codes.Unavailable {
		unreachable = s.facts.Load().GetAddress()
	}
	facts, err := s.engine.config.Owners.FactsAnew(ctx, s.facts.Load().GetSessionId(), unreachable)
	if err == nil {
		s.facts.Store(facts)
	}
	return err
}

// locate says who owns a session. It asks again, for a while, when no owner can say.
func (e *Engine) locate(ctx context.Context, id string) (*sessionv1.SessionFacts, error) {
	return asked(ctx, func(ctx context.Context) (*sessionv1.SessionFacts, error) { return e.config.Owners.Facts(ctx, id) })
}

// openSession opens a session at some owner. One that does not answer in time may have opened it too; that one
// ends unused.
func (e *Engine) openSession(ctx context.Context, req *sessionv1.OpenSessionRequest) (*sessionv1.SessionFacts, error) {
	return asked(ctx, func(ctx context.Context) (*sessionv1.SessionFacts, error) { return e.config.Owners.Open(ctx, req) })
}

// asked asks any owner until one answers, for adoptionTime at most.
func asked(ctx context.Context, ask func(context.Context) (*sessionv1.SessionFacts, error)) (*sessionv1.SessionFacts, error) {
	since := time.Now()
	for {
		asking, cancel := context.WithTimeout(ctx, askTime)
		facts, err := ask(asking)
		cancel()
		if !absent(err) && !overdue(ctx, err) || time.Since(since) > adoptionTime {
			return facts, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(adoptionEvery):
		}
	}
}

// overdue reports whether an owner did not answer a question in time though the client still waits.
func overdue(ctx context.Context, err error) bool {
	return status.Code(err) == codes.DeadlineExceeded && ctx.Err() == nil
}

// absent reports whether an error of a call to an owner says nothing but that the owner is not there now.
func absent(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.FailedPrecondition:
		return true
	}
	return false
}

// ownerStream is a stream from the session's owner whose first message was read already.
type ownerStream[T any] struct {
	stream grpc.ServerStreamingClient[T]
	silent context.Context // ends when the owner falls silent
	end    context.CancelFunc
	first  *T
	err    error
	read   bool
}

// next reads a message. An owner that falls silent is one that is gone: errSilent.
func (o *ownerStream[T]) next() (*T, error) {
	if !o.read {
		o.read = true
		return o.first, o.err
	}
	message, err := o.stream.Recv()
	return message, o.explain(err)
}

func (o *ownerStream[T]) explain(err error) error {
	if status.Code(err) == codes.Canceled && o.silent.Err() != nil {
		return errSilent
	}
	return err
}

// errNotBegun: the owner was not reached, so that nothing was done.
type errNotBegun struct{ error }

// Unwrap keeps the status.
func (e errNotBegun) Unwrap() error { return e.error }

// GRPCStatus keeps the status.
func (e errNotBegun) GRPCStatus() *status.Status { return status.Convert(e.error) }

// certain reports whether after an error nothing was done for certain: the owner was not reached, or it said so.
func certain(err error) bool {
	var notBegun errNotBegun
	return status.Code(err) == codes.FailedPrecondition || errors.As(err, &notBegun)
}

// open starts a stream at the session's owner and reads its first message. Where the owner certainly did nothing
// with the request, or the request may be repeated, it goes to the next owner, which is waited for.
// The stream must be ended.
func open[T any](ctx context.Context, s *Session, repeatable bool, start func(context.Context, sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[T], error)) (*ownerStream[T], error) {
	var wait adoption
	for {
		o, err := openOnce(ctx, s, start)
		if err == nil {
			return o, nil
		}
		if ctx.Err() != nil || !certain(err) && (!repeatable || !absent(err)) {
			return nil, err
		}
		if err := wait.next(ctx, s, err); err != nil {
			return nil, err
		}
	}
}

// openOnce is open at the owner that is known. The error is that of the first message too, but for io.EOF.
func openOnce[T any](ctx context.Context, s *Session, start func(context.Context, sessionv1.SessionServiceClient) (grpc.ServerStreamingClient[T], error)) (*ownerStream[T], error) {
	owners, address := s.engine.config.Owners, s.facts.Load().GetAddress()
	owner, err := owners.Session(address)
	if err != nil {
		return nil, errNotBegun{err}
	}
	return opened(ctx, owners.Silent(address), func(ctx context.Context) (grpc.ServerStreamingClient[T], error) { return start(ctx, owner) })
}

// opened starts a stream that ends when its owner falls silent, and reads the first message.
func opened[T any](ctx, silent context.Context, start func(context.Context) (grpc.ServerStreamingClient[T], error)) (*ownerStream[T], error) {
	if silent.Err() != nil {
		return nil, errNotBegun{errSilent}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(silent, cancel)
	o := &ownerStream[T]{silent: silent, end: func() { stop(); cancel() }}
	var err error
	if o.stream, err = start(ctx); err != nil {
		o.end()
		if status.Code(err) == codes.Unavailable { // no connection: gRPC says so before it sends anything
			return nil, errNotBegun{err}
		}
		return nil, o.explain(err)
	}
	o.first, o.err = o.stream.Recv()
	o.err = o.explain(o.err)
	if absent(o.err) {
		o.end()
		return nil, o.err
	}
	return o, nil
}
