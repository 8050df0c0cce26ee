package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/pool"
)

// peer is a connection that remembers whether it was closed.
type peer struct {
	url    string
	closed atomic.Int64
}

func (p *peer) Call(context.Context, upstream.Request, upstream.Listener) (upstream.Reply, error) {
	return upstream.Reply{Result: json.RawMessage(`"` + p.url + `"`)}, nil
}
func (p *peer) Notify(context.Context, string, json.RawMessage) error { return nil }
func (p *peer) Close() error                                          { p.closed.Add(1); return nil }

// opener opens peers, and keeps them.
type opener struct {
	mu     sync.Mutex
	opened []*peer
	before func(ctx context.Context, name string) error
}

func (o *opener) open(ctx context.Context, s *registryv1.CatalogServer) (upstream.Peer, error) {
	if o.before != nil {
		if err := o.before(ctx, s.GetServer().GetName()); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &peer{url: s.GetServer().GetHttp().GetUrl()}
	o.opened = append(o.opened, p)
	return p, nil
}

func (o *opener) all() []*peer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened
}

func declare(name, url string) *registryv1.CatalogServer {
	return &registryv1.CatalogServer{
		Server: &registryv1.Server{Name: name, Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: url}}},
		Offer:  &registryv1.Offer{Eras: []registryv1.Era{registryv1.Era_ERA_MODERN}},
	}
}

func catalogOf(servers ...*registryv1.CatalogServer) *catalog.Catalog {
	return catalog.New().Apply(&registryv1.WatchCatalogResponse{Snapshot: true, Servers: servers})
}

func newPool(t *testing.T, o *opener, maxCalls int) *pool.Pool {
	p := pool.New(pool.Config{Open: o.open, MaxCalls: maxCalls})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, opened := range o.all() {
			if n := opened.closed.Load(); n != 1 {
				t.Errorf("%s was closed %d times", opened.url, n)
			}
		}
	})
	return p
}

func borrow(t *testing.T, p *pool.Pool, s *registryv1.CatalogServer) (*peer, func()) {
	t.Helper()
	got, done, err := p.Peer(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got.(*peer), done
}

func TestOneConnectionIsSharedByAll(t *testing.T) {
	var o opener
	p := newPool(t, &o, 0)
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			reply, err := p.Borrowed(declare("a", "u")).Call(t.Context(), upstream.Request{}, nil) // equal, not the same
			if err != nil || string(reply.Result) != `"u"` {
				t.Error(string(reply.Result), err)
			}
		})
	}
	calls.Wait()
	if n := len(o.all()); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAReplacedDeclarationsConnectionEndsAfterItsCalls(t *testing.T) {
	var o opener
	p := newPool(t, &o, 0)
	before, after := declare("a", "old"), declare("a", "new")
	p.CatalogChanged(nil, catalogOf(before))
	old, done := borrow(t, p, before)
	p.CatalogChanged(nil, catalogOf(after))
	if old.closed.Load() != 0 {
		t.Fatal("it was closed under a call")
	}
	fresh, doneFresh := borrow(t, p, after)
	late, doneLate := borrow(t, p, before) // by who still has the catalogue of before
	if fresh.url != "new" || late != old {
		t.Errorf("%s, %s", fresh.url, late.url)
	}
	done()
	if old.closed.Load() != 0 {
		t.Error("a call is still on it")
	}
	doneLate()
	if old.closed.Load() != 1 {
		t.Error("nobody uses it any more")
	}
	straggler, doneStraggler := borrow(t, p, before)
	doneStraggler()
	if straggler.url != "old" || straggler.closed.Load() != 1 {
		t.Error("a straggler's connection ends with its call")
	}
	if again, doneAgain := borrow(t, p, after); again != fresh {
		t.Error("a straggler must not take the place of the newer declaration")
	} else {
		doneAgain()
	}
	doneFresh()
	p.CatalogChanged(nil, catalogOf())
	if fresh.closed.Load() != 1 {
		t.Error("its server was removed")
	}
}

func TestMoreCallsThanTheLimitAreRefused(t *testing.T) {
	var o opener
	p := newPool(t, &o, 2)
	s := declare("a", "u")
	_, done := borrow(t, p, s)
	_, done2 := borrow(t, p, s)
	if _, _, err := p.Peer(t.Context(), s); !errors.Is(err, pool.ErrBusy) || !errors.Is(err, upstream.ErrNotSent) {
		t.Error(err)
	}
	_, other := borrow(t, p, declare("b", "v"))
	done()
	_, done3 := borrow(t, p, s)
	for _, done := range []func(){done2, done3, other} {
		done()
	}
}

func TestAConnectionThatHangsOnOpeningHoldsOnlyItsOwnCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &opener{before: func(ctx context.Context, name string) error {
			if name == "slow" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		p := newPool(t, o, 0)
		slow := declare("slow", "u")
		ctx, cancel := context.WithCancel(t.Context())
		failed, waited := make(chan error, 1), make(chan error, 1)
		go func() { _, _, err := p.Peer(ctx, slow); failed <- err }()
		synctest.Wait()
		go func() { _, _, err := p.Peer(t.Context(), slow); waited <- err }()
		synctest.Wait()

		_, done := borrow(t, p, declare("fast", "v"))
		done()
		p.CatalogChanged(nil, catalogOf(slow))
		p.CatalogChanged(nil, catalogOf()) // nor does it hold the catalogue
		cancel()
		if err := <-failed; !errors.Is(err, upstream.ErrNotSent) || !errors.Is(err, context.Canceled) {
			t.Errorf("its caller gave up: %v", err)
		}
		began := time.Now()
		if err := <-waited; !errors.Is(err, upstream.ErrNotSent) || time.Since(began) > time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestAnOpeningOutlivesTheCallerThatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		o := &opener{before: func(ctx context.Context, _ string) error {
			select {
			case <-free:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		p := newPool(t, o, 0)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, _, err := p.Peer(ctx, declare("a", "u")); first <- err }()
		synctest.Wait()
		go func() {
			_, done, err := p.Peer(t.Context(), declare("a", "u"))
			if err == nil {
				done()
			}
			second <- err
		}()
		synctest.Wait()
		cancel()
		<-first
		close(free)
		if err := <-second; err != nil || len(o.all()) != 1 {
			t.Errorf("%v, %d connections", err, len(o.all()))
		}
	})
}

func TestAFailedOpeningIsTriedAgainAndSaysThatNothingWasSent(t *testing.T) {
	fail := errors.New("handshake")
	for _, is := range []error{fmt.Errorf("%w: %w", upstream.ErrRefused, fail), fail} {
		o := &opener{before: func(context.Context, string) error { return is }}
		p := newPool(t, o, 0)
		_, _, err := p.Peer(t.Context(), declare("a", "u"))
		if !errors.Is(err, fail) || !errors.Is(err, upstream.ErrNotSent) && !errors.Is(err, upstream.ErrRefused) {
			t.Error(err)
		}
		o.before = nil
		_, done := borrow(t, p, declare("a", "u"))
		done()
	}
}

func TestCloseClosesAllAndWhatStillOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opening := make(chan struct{})
		o := &opener{before: func(ctx context.Context, name string) error {
			if name == "late" { // it opens all the same
				close(opening)
				<-ctx.Done()
			}
			return nil
		}}
		p := newPool(t, o, 0)
		used, doneUsed := borrow(t, p, declare("a", "used"))
		p.CatalogChanged(nil, catalogOf()) // replaced, and still used
		_, _ = borrow(t, p, declare("b", "u"))
		late := make(chan error, 1)
		go func() { _, _, err := p.Peer(t.Context(), declare("late", "w")); late <- err }()
		<-opening
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-late; !errors.Is(err, upstream.ErrClosed) || !errors.Is(err, upstream.ErrNotSent) {
			t.Error(err)
		}
		if _, _, err := p.Peer(t.Context(), declare("a", "x")); !errors.Is(err, upstream.ErrClosed) {
			t.Error(err)
		}
		doneUsed()
		if used.closed.Load() != 1 {
			t.Error("a call on it goes on")
		}
	})
}

func TestUseAndChangeAtOnce(t *testing.T) {
	var o opener
	p := newPool(t, &o, 0)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 200 {
				s := declare("a", fmt.Sprint((i+j)%3))
				if i == 0 {
					p.CatalogChanged(nil, catalogOf(s))
					continue
				}
				got, done := borrow(t, p, s)
				if got.url != s.GetServer().GetHttp().GetUrl() || got.closed.Load() != 0 {
					t.Errorf("%s for %s, closed %d times", got.url, s.GetServer().GetHttp().GetUrl(), got.closed.Load())
				}
				done()
			}
		})
	}
	all.Wait()
}
