package discovery

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// loop keeps asking one server of one declaration.
type loop struct {
	*Discovery
	server *store.Server // as it was when the loop began
	cancel context.CancelFunc
	log    *slog.Logger
	kicked chan struct{} // of one place: there is reason to ask

	failures int           // in a row
	quiet    time.Duration // how long a kick waits for further ones
	last     time.Time     // when a kick was last followed
}

// kick gives the loop a reason to ask. It does not block.
func (l *loop) kick() {
	select {
	case l.kicked <- struct{}{}:
	default:
	}
}

func (l *loop) run(ctx context.Context, atOnce bool) {
	sub := &subscription{loop: l}
	defer sub.end()
	timer := time.NewTimer(l.firstWait(atOnce))
	defer timer.Stop()
	if !atOnce && l.server.State == registryv1.ServerState_SERVER_STATE_READY {
		sub.follow(ctx, l.server.Offer)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.kicked:
			if !l.settleDown(ctx) {
				return
			}
		}
		timer.Reset(l.ask(ctx, sub))
	}
}

// firstWait is how long ago the server was asked off the interval.
func (l *loop) firstWait(atOnce bool) time.Duration {
	switch {
	case atOnce || l.server.CheckedAt.IsZero():
		return 0
	case l.server.State == registryv1.ServerState_SERVER_STATE_UNREACHABLE:
		l.failures = 1
		return l.backoff(l.failures)
	}
	left := l.config.Interval - time.Since(l.server.CheckedAt)
	return min(max(left, 0), jitter(l.config.Interval)) // another process' clock may differ
}

// ask asks the server, and returns how long to wait until the next time.
func (l *loop) ask(ctx context.Context, sub *subscription) time.Duration {
	places := l.sound
	if l.failures > 0 {
		places = l.failing
	}
	_, offer, err := l.refresh(ctx, l.server.Spec.GetName(), places, l.failures == 0)
	switch unreachable, silent := errors.AsType[*Unreachable](err); {
	case ctx.Err() != nil:
	case err == nil:
		l.failures = 0
		sub.follow(ctx, offer)
		return jitter(l.config.Interval)
	case silent:
		if l.failures++; l.failures > 1 {
			sub.end() // it is told anew when it answers
		}
		l.log.Debug("a server does not answer", "failures", l.failures, "error", unreachable)
		return l.backoff(l.failures)
	case errors.Is(err, store.ErrNotFound): // this loop is about to end
	default:
		l.log.Warn("could not keep what a server offers; tried again", "error", err)
	}
	return jitter(l.config.RetryMax)
}

// settleDown waits until changes come no more for a moment, or for so long that they may as well be looked at.
// It returns false where ctx ended.
func (l *loop) settleDown(ctx context.Context) bool {
	const calm, most = 4, 50
	if l.quiet > 0 && time.Since(l.last) < calm*l.quiet {
		l.quiet = min(2*l.quiet, most*l.config.Debounce)
	} else {
		l.quiet = l.config.Debounce
	}
	if !sleep(ctx, l.quiet) {
		return false
	}
	select {
	case <-l.kicked:
	default:
	}
	l.last = time.Now()
	return true
}

// backoff is how long to wait after so many failures in a row.
func (d *Discovery) backoff(failures int) time.Duration {
	wait := d.config.RetryMin
	for range failures - 1 {
		if wait = 2 * wait; wait >= d.config.RetryMax {
			wait = d.config.RetryMax
			break
		}
	}
	return jitter(wait)
}

// jitter is a duration between 80 and 100 per cent of d, so that what began together does not go on together.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/5+1) }

// sleep returns false where ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
