package usage

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/spool"
)

// sender delivers what waits in a spool, oldest first, each entry until the metrics service has it.
type sender struct {
	what  string // for the log
	spool *spool.Spool
	send  func(ctx context.Context, entry []byte) error
	// refused is told of an entry that the service will never take.
	refused func(entry []byte)
	retry   time.Duration
	log     *slog.Logger
	failing bool
}

const (
	// sendTimeout bounds one attempt.
	sendTimeout = 5 * time.Second
	// stopTimeout bounds the delivery of what is left at the end; stopPause is between two attempts then.
	stopTimeout = 3 * time.Second
	stopPause   = 100 * time.Millisecond
)

// run delivers until ctx ends.
func (s *sender) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.oldest(ctx)
		switch {
		case errors.Is(err, spool.ErrEmpty):
			select {
			case <-ctx.Done():
			case <-s.spool.Wake():
			}
		case err != nil:
			pause(ctx, s.retry)
		}
	}
}

// finish delivers what is left, within a bound. The rest stays in the spool, for the next life of the process.
func (s *sender) finish(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for bounded.Err() == nil {
		err := s.oldest(bounded)
		if errors.Is(err, spool.ErrEmpty) {
			return
		}
		if err != nil {
			pause(bounded, stopPause)
		}
	}
	s.log.Warn("the process ends before all was delivered; its next start goes on with it", "what", s.what, "entries", s.spool.Waiting())
}

// oldest delivers one entry.
func (s *sender) oldest(ctx context.Context) error {
	number, entry, err := s.spool.Oldest()
	if errors.Is(err, spool.ErrEmpty) {
		return err
	}
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, sendTimeout)
		err = s.send(bounded, entry)
		cancel()
	}
	switch {
	case err == nil:
		if s.failing {
			s.log.Info("events reach the metrics service again", "what", s.what)
		}
		s.failing = false
	case status.Code(err) == codes.InvalidArgument: // a bug; the next entry may well pass
		s.log.Error("the metrics service refused what it was sent; it is dropped", "what", s.what, "error", err)
		s.refused(entry)
	default:
		if ctx.Err() == nil && !s.failing {
			s.failing = true
			s.log.Warn("events cannot be delivered to the metrics service; they wait", "what", s.what, "error", err)
		}
		return err
	}
	return s.spool.Remove(number)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
