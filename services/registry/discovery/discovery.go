package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Discoverer reaches servers. It is safe for concurrent use, and heeds ctx.
type Discoverer interface {
	// Describe asks a server what it offers. An error says to humans why it couldn't, without secrets.
	Describe(ctx context.Context, server *registryv1.Server) (*registryv1.Offer, error)
	// Watch calls changed whenever the server says that what it offers changed, and returns when it can't hear of
	// that any more; it is then called again after a while. offer is what Describe found last. A Discoverer that
	// can't tell whether something changed between that and its subscription calls changed once when it is
	// subscribed. nil says that this server tells nothing of the kind: Watch is called again only when the server
	// presents itself differently. changed does not block.
	Watch(ctx context.Context, server *registryv1.Server, offer *registryv1.Offer, changed func()) error
}

// Servers is where Run learns which servers there are; a watch.Hub is one.
type Servers interface {
	// Servers returns all servers, and a channel that is closed when any changed after that. All that were there
	// when Run began are asked at once, so it should know them by then.
	Servers() (servers []*store.Server, changed <-chan struct{})
}

// Store is what is read and written of the store.
type Store interface {
	Server(ctx context.Context, name string) (*store.Server, error)
	store.Writer
}

// Config is what a Discovery needs.
type Config struct {
	Store      Store
	Servers    Servers
	Discoverer Discoverer
	// Interval between two times that a server which answers is asked; 60 s when 0.
	Interval time.Duration
	// Timeout of one Describe; 15 s when 0.
	Timeout time.Duration
	// Debounce is how long further changes are waited for once a server told of one; 100 ms when 0. A server that
	// doesn't stop is asked ever more seldom, down to once in 50 times that.
	Debounce time.Duration
	// RetryMin and RetryMax bound the wait before a server that did not answer is asked again, which doubles each
	// time; 1 s and 60 s when 0.
	RetryMin, RetryMax time.Duration
	// Concurrent is how many servers are asked at a time; 16 when 0. Those that did not answer last time have a
	// quarter of that to themselves, so that they don't hold up the others; so have the calls of Refresh and Describe.
	Concurrent int
	Log        *slog.Logger
}

// Discovery asks servers what they offer. It is safe for concurrent use.
type Discovery struct {
	config Config
	turns  turns
	// Places for those that are asked at a time: servers that answered last time, those that did not, and those
	// that an administrator wants to know of.
	sound, failing, wanted chan struct{}
}

// New makes a Discovery.
func New(c Config) *Discovery {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{
		{&c.Interval, time.Minute},
		{&c.Timeout, 15 * time.Second},
		{&c.Debounce, 100 * time.Millisecond},
		{&c.RetryMin, time.Second},
		{&c.RetryMax, time.Minute},
	} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	if c.Concurrent <= 0 {
		c.Concurrent = 16
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	quarter := (c.Concurrent + 3) / 4
	return &Discovery{
		config: c, sound: make(chan struct{}, c.Concurrent), failing: make(chan struct{}, quarter), wanted: make(chan struct{}, quarter),
	}
}

// Unreachable is an error: a server did not answer, or not sensibly.
type Unreachable struct{ Err error }

// Error implements error.
func (e *Unreachable) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *Unreachable) Unwrap() error { return e.Err }

// Describe asks a server that need not be in the store. The error is an *Unreachable or ctx's.
func (d *Discovery) Describe(ctx context.Context, server *registryv1.Server) (*registryv1.Offer, error) {
	leave, err := take(ctx, d.wanted)
	if err != nil {
		return nil, err
	}
	defer leave()
	return d.describe(ctx, server)
}

// take waits for one of the places, and returns how to leave it.
func take(ctx context.Context, places chan struct{}) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Discovery) describe(ctx context.Context, server *registryv1.Server) (*registryv1.Offer, error) {
	timeout := d.config.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, 3*time.Until(deadline)/4) // what came of it is yet to be written
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	offer, err := d.config.Discoverer.Describe(bounded, proto.CloneOf(server))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case bounded.Err() != nil && err != nil:
		return nil, &Unreachable{fmt.Errorf("it did not answer within %v", timeout.Round(time.Millisecond))}
	case err != nil:
		return nil, &Unreachable{err}
	case offer == nil:
		return nil, &Unreachable{errors.New("it answered nothing")}
	}
	if err := check(offer); err != nil {
		return nil, &Unreachable{err}
	}
	return offer, nil
}

// Refresh asks a server of the store and writes what came of it: READY with what it offers, UNREACHABLE with what it
// offered before, or CONFLICT with nothing. It returns the server as it is then, and an *Unreachable besides where it
// did not answer; else the error is the store's or ctx's.
func (d *Discovery) Refresh(ctx context.Context, name string) (*store.Server, error) {
	s, _, err := d.refresh(ctx, name, d.wanted, false)
	return s, err
}

// errMoved: the server's record changed while it was asked.
var errMoved = errors.New("the server was changed meanwhile")

// maxMoved is how often a server is asked again because its record changed meanwhile.
const maxMoved = 5

// refresh is Refresh, with the places to take one of. It returns what the server offers too, even if that is withheld.
// patient, it overlooks that a server which was ready does not answer.
func (d *Discovery) refresh(ctx context.Context, name string, places chan struct{}, patient bool) (*store.Server, *registryv1.Offer, error) {
	leave, err := take(ctx, places)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	done, err := d.turns.enter(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	for range maxMoved {
		seen, err := d.config.Store.Server(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		offer, failure := d.describe(ctx, seen.Spec)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if failure != nil && patient && seen.State == registryv1.ServerState_SERVER_STATE_READY {
			return seen, nil, failure
		}
		now, err := d.settle(ctx, seen, offer, failure)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		return now, offer, failure
	}
	return nil, nil, fmt.Errorf("ask server %q what it offers: %w %d times over; try again", name, errMoved, maxMoved)
}

// settle writes what asking a server brought, provided that its record is still what it was when it was asked: an
// answer to an older declaration, or one that came later than a newer one, must not win.
func (d *Discovery) settle(ctx context.Context, seen *store.Server, offer *registryv1.Offer, failure error) (*store.Server, error) {
	next := *seen
	Settle(&next, offer, failure, time.Now())
	if published(&next, seen) {
		return &next, d.note(ctx, &next)
	}
	_, err := d.config.Store.Change(ctx, func(tx store.Tx) error {
		stored, err := tx.Server(ctx, seen.Spec.GetName())
		if err != nil {
			return err
		}
		if stored.Version != seen.Version {
			return errMoved
		}
		err = tx.PutServer(ctx, &next, Names(&next))
		taken, ok := errors.AsType[*store.NameTaken](err)
		if !ok {
			return err
		}
		withhold(&next, taken)
		if published(&next, seen) {
			return nil
		}
		return tx.PutServer(ctx, &next, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("keep what server %q offers: %w", seen.Spec.GetName(), err)
	}
	if published(&next, seen) {
		return &next, d.note(ctx, &next)
	}
	d.config.Log.Info("a server changed", "server", next.Spec.GetName(), "state", next.State.String(), "message", next.Message, "version", next.Version)
	return &next, nil
}

func (d *Discovery) note(ctx context.Context, s *store.Server) error {
	return d.config.Store.Note(ctx, s.Spec.GetName(), s.Version, s.CheckedAt, s.Message)
}

// published reports whether the catalogue shows next already, as it shows seen.
func published(next, seen *store.Server) bool {
	return next.State == seen.State && (next.Offer == nil) == (seen.Offer == nil) && sameOffer(next.Offer, seen.Offer)
}
