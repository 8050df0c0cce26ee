package discovery

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// subscription is what a loop hears from its server. It is used by the loop's goroutine only.
type subscription struct {
	loop   *loop
	to     *registryv1.Offer // the handshake that is subscribed to; nil for none
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// follow subscribes to the changes of a server with this offer, unless that was done.
func (s *subscription) follow(ctx context.Context, offer *registryv1.Offer) {
	if s.to != nil && proto.Equal(s.to, handshake(offer)) {
		return
	}
	s.end()
	s.to = handshake(offer)
	ctx, s.cancel = context.WithCancel(ctx)
	s.wg.Go(func() { s.loop.watch(ctx, proto.CloneOf(offer)) })
}

// end unsubscribes.
func (s *subscription) end() {
	if s.to == nil {
		return
	}
	s.cancel()
	s.wg.Wait()
	s.to = nil
}

// watch subscribes again and again. When a subscription breaks the server is asked: perhaps it is gone.
func (l *loop) watch(ctx context.Context, offer *registryv1.Offer) {
	for failures := 1; ; failures++ {
		began := time.Now()
		err := l.config.Discoverer.Watch(ctx, proto.CloneOf(l.server.Spec), offer, l.kick)
		if ctx.Err() != nil || err == nil {
			return
		}
		l.log.Debug("a server's changes are not heard of for now", "failures", failures, "error", err)
		if time.Since(began) > l.config.RetryMax {
			failures = 1
		}
		l.kick()
		if !sleep(ctx, l.backoff(failures)) {
			return
		}
	}
}
