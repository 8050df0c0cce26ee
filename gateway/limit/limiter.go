package limit

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Limiter needs.
type Config struct {
	// Rate is the number of requests that a principal may make in a second; as many at once.
	Rate int
	// Store has the buckets that all gateways share; nil where there is one gateway only.
	Store Store
	Log   *slog.Logger
}

// Store has the shared buckets.
type Store interface {
	// Take takes up to a number of tokens from each principal's bucket. Portions are in the order of the principals.
	Take(ctx context.Context, rate, want int, principals []string) ([]Portion, error)
}

// Portion is what a bucket gave.
type Portion struct {
	Tokens int
	// Wait is how long it takes until there is a token again, where there was none.
	Wait time.Duration
}

// Limiter says how long principals have to wait. It is safe for concurrent use.
type Limiter struct {
	config   Config
	portion  float64
	accounts sync.Map // *account by principal
	asks     chan *account
	away     atomic.Bool
}

const (
	// maxAsks is how many principals' portions are asked for at once.
	maxAsks = 4096
	// patience is how long a request waits for Redis before this gateway counts for itself.
	patience = 100 * time.Millisecond
	// retryAfter is how long it then does so at least.
	retryAfter = time.Second
	// forgetAfter is how long a principal is remembered that asks for nothing: its bucket is full again by then.
	forgetAfter = 10 * time.Second
)

// New makes a Limiter. With a Store its Run must run.
func New(config Config) *Limiter {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Limiter{config: config, portion: max(1, float64(config.Rate)/50), asks: make(chan *account, maxAsks)}
}

// Wait counts a request of a principal: 0 when it may go on, else how long the principal should wait before the next.
func (l *Limiter) Wait(ctx context.Context, principal string) time.Duration {
	a := l.account(principal)
	wait, answered := a.take(l)
	if answered == nil {
		return wait
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for answered != nil {
		select {
		case <-answered:
		case <-late.C:
			a.failed()
		case <-ctx.Done():
			return 0 // nobody waits for what comes of it
		}
		wait, answered = a.take(l)
	}
	return wait
}

func (l *Limiter) account(principal string) *account {
	if a, ok := l.accounts.Load(principal); ok {
		return a.(*account)
	}
	fresh := &account{principal: principal, filled: time.Now(), tokens: l.portion}
	if l.config.Store == nil {
		fresh.alone, fresh.tokens = true, float64(l.config.Rate)
	}
	a, _ := l.accounts.LoadOrStore(principal, fresh)
	return a.(*account)
}

// Run asks the store for portions, and forgets principals that ask for nothing, until ctx ends.
func (l *Limiter) Run(ctx context.Context) error {
	sweep := time.NewTicker(forgetAfter)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-l.asks:
			l.ask(ctx, l.waiting(first))
		case <-sweep.C:
			l.accounts.Range(func(key, a any) bool {
				if a.(*account).idle() {
					l.accounts.Delete(key)
				}
				return true
			})
		}
	}
}

// waiting is all that wait for a portion now: they share a round trip.
func (l *Limiter) waiting(first *account) []*account {
	all := []*account{first}
	for {
		select {
		case a := <-l.asks:
			all = append(all, a)
		default:
			return all
		}
	}
}

func (l *Limiter) ask(ctx context.Context, accounts []*account) {
	principals := make([]string, len(accounts))
	for i, a := range accounts {
		principals[i] = a.principal
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	portions, err := l.config.Store.Take(ctx, l.config.Rate, int(l.portion), principals)
	if was := l.away.Swap(err != nil); was != (err != nil) {
		if err != nil {
			l.config.Log.Warn("requests are counted by each gateway for itself: the shared count can't be reached", "error", err)
		} else {
			l.config.Log.Info("requests are counted over all gateways again")
		}
	}
	for i, a := range accounts {
		if err != nil {
			a.failed()
		} else {
			a.answered(portions[i])
		}
	}
}

// account is one principal's tokens at this gateway.
type account struct {
	principal string

	mu     sync.Mutex
	tokens float64
	used   time.Time
	// asking is closed when the store's answer came; nil while nothing is asked.
	asking chan struct{}
	// until is how long the shared bucket is empty.
	until time.Time
	// alone: the bucket is this gateway's own, filled last at filled. The store is asked again at again.
	alone         bool
	filled, again time.Time
}

// take takes a token. Where that needs the store's answer, it returns a channel that is closed when it came.
func (a *account) take(l *Limiter) (wait time.Duration, answered <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.used = now
	rate := float64(l.config.Rate)
	if a.alone {
		a.tokens = min(rate, a.tokens+now.Sub(a.filled).Seconds()*rate)
		a.filled = now
		if l.config.Store != nil && now.After(a.again) {
			a.again = now.Add(retryAfter)
			a.ask(l)
		}
	}
	if a.tokens >= 1 {
		a.tokens--
		if !a.alone && a.tokens < l.portion/2 && now.After(a.until) {
			a.ask(l)
		}
		return 0, nil
	}
	switch {
	case a.alone:
		return seconds((1 - a.tokens) / rate), nil
	case now.Before(a.until):
		return a.until.Sub(now), nil
	}
	a.ask(l)
	if a.asking == nil { // too many ask
		return retryAfter, nil
	}
	return 0, a.asking
}

func seconds(s float64) time.Duration { return time.Duration(math.Ceil(s * float64(time.Second))) }

// ask has the store asked, unless it is being asked.
func (a *account) ask(l *Limiter) {
	if a.asking != nil {
		return
	}
	select {
	case l.asks <- a:
		a.asking = make(chan struct{})
	default:
	}
}

func (a *account) answered(p Portion) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alone {
		a.alone, a.tokens = false, 0
	}
	a.tokens += float64(p.Tokens)
	a.until = time.Now().Add(p.Wait)
	a.done()
}

// failed makes this gateway count for itself, for a while.
func (a *account) failed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.alone {
		a.alone, a.filled = true, time.Now()
		a.tokens = max(a.tokens, 1)
	}
	a.again = time.Now().Add(retryAfter)
	a.done()
}

func (a *account) done() {
	if a.asking != nil {
		close(a.asking)
		a.asking = nil
	}
}

func (a *account) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asking == nil && time.Since(a.used) > forgetAfter
}
