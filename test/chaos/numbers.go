package chaos

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// count is a client that is told one number after the other on its standing stream, outside of calls, and must hear each
// once and in order.
type count struct {
	*watcher
	upstream *upstream
	name     string // at the upstream
	view     string
	// kept says that the server keeps its events.
	kept bool

	telling sync.Mutex
	said    []time.Time // when number i+1 was
	stop    chan struct{}
	all     sync.WaitGroup
}

// countEvery is the time from one number to the next.
const countEvery = 50 * time.Millisecond

// newCount opens a session at a URL, listens until ctx ends, and counts until finish.
func newCount(ctx context.Context, t *testing.T, u *upstream, url, view, version string) *count {
	t.Helper()
	r, err := newRaw(ctx, url, version)
	if err != nil {
		t.Fatal(err)
	}
	n := &count{
		watcher: &watcher{raw: r}, upstream: u, name: fmt.Sprintf("count%d", ids.Add(1)), view: view, kept: view == "keeping",
		stop: make(chan struct{}),
	}
	if _, err := r.call(ctx, "follow", arguments{Call: n.name}, func(float64) {}); err != nil {
		t.Fatal(err)
	}
	if err := r.setLevel(ctx, "info"); err != nil {
		t.Fatal(err)
	}
	n.all.Go(func() { n.hear(ctx) })
	testkit.Eventually(t, func() bool { return n.told() > 0 || n.say(ctx) }, 10*time.Second)
	testkit.Eventually(t, func() bool { return n.hasHeard(1) }, 10*time.Second)
	n.all.Go(func() {
		for {
			select {
			case <-n.stop:
				return
			case <-time.After(countEvery):
				n.say(ctx)
			}
		}
	})
	return n
}

// say tells the client the next number, and the same one again where nobody could hear it.
func (n *count) say(ctx context.Context) bool {
	n.telling.Lock()
	defer n.telling.Unlock()
	at := time.Now()
	if n.upstream.say(ctx, n.name, len(n.said)+1) != nil {
		return false
	}
	n.said = append(n.said, at)
	return true
}

// told is the last number that was said.
func (n *count) told() int {
	n.telling.Lock()
	defer n.telling.Unlock()
	return len(n.said)
}

// latest is how late, at most, a number came that was said in some time.
func (n *count) latest(from, to time.Time) time.Duration {
	n.telling.Lock()
	defer n.telling.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	late := time.Duration(0)
	for _, heard := range n.numbers {
		if said := n.said[heard.n-1]; said.After(from) && said.Before(to) {
			late = max(late, heard.at.Sub(said))
		}
	}
	return late
}

// finish ends the count, and waits for a while until the client has heard of the end.
func (n *count) finish(ctx context.Context) {
	close(n.stop)
	const patience = 20 * time.Second
	end, looked := time.Now().Add(patience), time.Now()
	for !n.hasHeard(n.told()) && time.Now().Before(end) && ctx.Err() == nil {
		wait(ctx, 10*time.Millisecond)
		if !n.kept && time.Since(looked) > time.Second { // the last one may be lost with the owner that heard it
			looked = time.Now()
			n.say(ctx)
		}
	}
}

// check says what was heard otherwise than once and in order, but for what docs/reliability.md excepts: what is said as an
// owner dies may come twice, and is lost where the server keeps nothing, as what is said while a session has no owner; and
// what could not be logged, for want of Redis, may come twice.
func (n *count) check(harmed func(from, to time.Time, role string, kinds ...string) bool) (doubled, lost int, strange []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	const around = time.Second // it was on its way
	near := func(i int, role string, kinds ...string) bool {
		return harmed(n.said[i-1].Add(-around), n.said[i-1].Add(around), role, kinds...)
	}
	heard := make([]int, len(n.said)+1)
	highest := 0
	for _, h := range n.numbers {
		i := h.n
		switch {
		case i < 1 || i > len(n.said):
			strange = append(strange, fmt.Sprintf("%d came, which was not said", i))
			continue
		case heard[i] > 0 && (near(i, "session", "kill", "freeze") || near(i, "redis", "kill", "freeze")):
			doubled++
		case heard[i] > 0:
			strange = append(strange, fmt.Sprintf("%d, said at %s, came again at %s", i, n.said[i-1].Format("05.000"), h.at.Format("05.000")))
		case i < highest:
			strange = append(strange, fmt.Sprintf("%d, said at %s, came behind %d at %s", i, n.said[i-1].Format("05.000"), highest, h.at.Format("05.000")))
		}
		heard[i]++
		highest = max(highest, i)
	}
	for i := 1; i <= len(n.said); i++ {
		switch {
		case heard[i] > 0:
		case !n.kept && near(i, "session", "kill", "freeze", "roll"):
			lost++
		default:
			strange = append(strange, fmt.Sprintf("%d, said at %s, never came", i, n.said[i-1].Format("05.000")))
		}
	}
	return doubled, lost, strange
}

// watchCounts has clients count while harm runs, of revisions and servers of their own.
func watchCounts(ctx context.Context, t *testing.T, c *cluster.Cluster, u *upstream, tally *tally) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	counts := []*count{
		newCount(ctx, t, u, c.URL("keeping"), "keeping", "2025-11-25"),
		newCount(ctx, t, u, c.URL("keeping"), "keeping", "2025-03-26"),
		newCount(ctx, t, u, c.URL("stateful"), "stateful", "2025-06-18"),
	}
	return func() {
		for _, n := range counts {
			n.finish(ctx)
		}
		cancel()
		for _, n := range counts {
			n.all.Wait()
			doubled, lost, strange := n.check(tally.harmed)
			t.Logf("%s at %s: %d numbers were said outside of calls; %d of them came twice, %d never", n.raw.name(), n.view, len(n.said), doubled, lost)
			complain(t, n.raw.name()+" at "+n.view, append(strange, n.strange...))
		}
	}
}

// complain fails the test for what a client heard otherwise than it should.
func complain(t *testing.T, who string, strange []string) {
	t.Helper()
	for i, s := range strange {
		if i == 10 {
			t.Errorf("%s, the standing stream: and %d more", who, len(strange)-i)
			return
		}
		t.Errorf("%s, the standing stream: %s", who, s)
	}
}
