package gateway_test

import (
	"context"
	"maps"
	"path"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wire is a connection that can be cut, as when the process at its other end dies.
type wire struct {
	to grpc.ClientConnInterface

	mu     sync.Mutex
	whole  context.Context // ends when the wire is cut
	cutNow context.CancelFunc
	begun  map[string]int // calls, by method
}

func newWire(to grpc.ClientConnInterface) *wire {
	w := &wire{to: to, begun: map[string]int{}}
	w.whole, w.cutNow = context.WithCancel(context.Background())
	return w
}

var errCut = status.Error(codes.Unavailable, "the connection broke")

// cut breaks the wire and all that runs over it.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutNow()
}

// mend makes it whole again.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole, w.cutNow = context.WithCancel(context.Background())
}

// calls are how many calls went over the wire, by method.
func (w *wire) calls() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.begun)
}

// begin is the context of a call, which ends with the wire.
func (w *wire) begin(ctx context.Context, method string) (bound, whole context.Context, end func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.whole.Err() != nil {
		return nil, nil, nil, errCut
	}
	w.begun[path.Base(method)]++
	bound, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(w.whole, cancel)
	return bound, w.whole, func() { stop(); cancel() }, nil
}

// Invoke implements grpc.ClientConnInterface.
func (w *wire) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	ctx, whole, end, err := w.begin(ctx, method)
	if err != nil {
		return err
	}
	defer end()
	if err = w.to.Invoke(ctx, method, req, response, options...); err != nil && whole.Err() != nil {
		return errCut
	}
	return err
}

// NewStream implements grpc.ClientConnInterface.
func (w *wire) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, whole, end, err := w.begin(ctx, method)
	if err != nil {
		return nil, err
	}
	stream, err := w.to.NewStream(ctx, d, method, options...)
	if err != nil {
		end()
		return nil, err
	}
	return &cuttable{stream, whole, end}, nil
}

type cuttable struct {
	grpc.ClientStream
	whole context.Context
	end   func()
}

// RecvMsg implements grpc.ClientStream.
func (c *cuttable) RecvMsg(m any) error {
	err := c.ClientStream.RecvMsg(m)
	if err != nil {
		if c.whole.Err() != nil {
			err = errCut
		}
		c.end()
	}
	return err
}

// some reaches some owner that is there, beginning with the one of its number.
type some struct {
	s     *site
	first int
}

func (a *some) one() *wire {
	for i := range a.s.owners {
		n := a.s.owners[(a.first+i)%len(a.s.owners)]
		n.wire.mu.Lock()
		whole := n.wire.whole.Err() == nil
		n.wire.mu.Unlock()
		if whole {
			return n.wire
		}
	}
	return a.s.owners[0].wire
}

// Invoke implements grpc.ClientConnInterface.
func (a *some) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	return a.one().Invoke(ctx, method, req, response, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (a *some) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	return a.one().NewStream(ctx, d, method, options...)
}
