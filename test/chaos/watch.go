package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/sse"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// watcher is a legacy client that hears its standing stream, whatever dies, and looks at the ids of the events.
type watcher struct {
	*raw
	mu      sync.Mutex
	last    string
	number  uint64
	data    string    // of the last event with an id
	at      time.Time // when it came
	changes int       // of lists that it heard of
	numbers []number  // that it heard, as they came
	opens   int       // how often its stream was opened
	breaks  int       // how often it ended
	cut     context.CancelFunc
	strange []string // what must not come
}

// number is one that the upstream said outside of calls.
type number struct {
	n  int
	at time.Time // when it was heard
}

// hear reads the standing stream until ctx ends, behind the last event whenever it broke.
func (w *watcher) hear(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.once(ctx); err != nil && ctx.Err() == nil {
			w.note("%v", err)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

func (w *watcher) once(ctx context.Context) error {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	w.mu.Lock()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	w.cut = cut
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if w.last != "" {
		r.Header.Set("Last-Event-ID", w.last)
	}
	response, err := w.do(r)
	if err != nil {
		return nil //nolint:nilerr // nobody is there; again
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 && response.StatusCode < 500 {
		return fmt.Errorf("the standing stream behind %q: %s", w.last, response.Status)
	}
	if response.StatusCode != http.StatusOK {
		return nil
	}
	w.mu.Lock()
	w.opens++
	w.mu.Unlock()
	events := sse.NewDecoder(response.Body, 1<<20)
	for {
		e, err := events.Next()
		if err != nil {
			w.mu.Lock()
			w.breaks++
			w.mu.Unlock()
			return nil //nolint:nilerr // it broke; again
		}
		w.take(e)
	}
}

// comeBackAt says where the client comes back to when its stream broke.
func (w *watcher) comeBackAt(url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.url = url
}

// breakOff breaks the stream, and returns what reports whether it was opened again.
func (w *watcher) breakOff() (again func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut()
	before := w.opens
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.opens > before
	}
}

// take looks at an event: its number, if it has one, must be higher than all before.
func (w *watcher) take(e sse.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.HasID && e.ID != "" {
		_, number, _ := strings.Cut(e.ID, ":")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n <= w.number {
			w.strange = append(w.strange, fmt.Sprintf("%s event %q (%s) behind %q (%s, %s)", time.Now().Format("05.000"), e.ID, e.Data, w.last, w.data, w.at.Format("05.000")))
		}
		w.last, w.number, w.data, w.at = e.ID, n, string(e.Data), time.Now()
	}
	switch method, _ := jsonrpc.GetString(e.Data, "method"); method {
	case "notifications/tools/list_changed":
		w.changes++
	case "notifications/message":
		heard := number{at: time.Now()}
		if err := json.Unmarshal(jsonrpc.Get(e.Data, "params", "data"), &heard.n); err != nil {
			w.strange = append(w.strange, fmt.Sprintf("%s: %v", e.Data, err))
		}
		w.numbers = append(w.numbers, heard)
	}
}

func (w *watcher) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strange = append(w.strange, fmt.Sprintf(format, args...))
}

func (w *watcher) changed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes
}

// hasHeard reports whether a number came.
func (w *watcher) hasHeard(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.numbers) - 1; i >= 0; i-- {
		if w.numbers[i].n == n {
			return true
		}
	}
	return false
}

// broke is how often the stream ended.
func (w *watcher) broke() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.breaks
}

// watched is the view that a watcher's client uses; it changes all the time.
const watched = "watched"

// watchChanges has a client hear how a view changes while harm runs. Changes that come together are told of once, so what
// is looked at is that its events are in order, and that changes are heard of once all is well again.
func watchChanges(t *testing.T, c *cluster.Cluster) (stop func()) {
	t.Helper()
	site := &site{c: c}
	servers := []string{"stateful", "stateless"}
	change := func(ctx context.Context, i int) error { return site.view(ctx, watched, servers[i%2]) }
	if err := change(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	testkit.Eventually(t, func() (err error) { // views come with the catalogue
		w.raw, err = newRaw(t.Context(), c.URL(watched), "2025-11-25")
		return err
	}, 10*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	var running, changing sync.WaitGroup
	running.Go(func() { w.hear(ctx) })
	changes, over := 0, make(chan struct{})
	changing.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(700 * time.Millisecond):
			}
			writing, done := context.WithTimeout(ctx, 5*time.Second)
			if change(writing, i) == nil {
				changes++
			}
			done()
		}
	})
	return func() {
		close(over)
		changing.Wait()
		before := w.changed()
		i := changes
		testkit.Eventually(t, func() error {
			i++
			if err := change(ctx, i); err != nil {
				return err
			}
			if w.changed() == before {
				return fmt.Errorf("nothing was heard of a change")
			}
			return nil
		}, 30*time.Second)
		cancel()
		running.Wait()
		t.Logf("a view changed %d times, and its client heard %d events on its standing stream", changes, w.changed())
		for _, s := range w.strange {
			t.Errorf("the standing stream: %s", s)
		}
	}
}
