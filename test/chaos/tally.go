package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// outcome is what a client knows of a call in the end.
type outcome string

// The outcomes.
const (
	done    outcome = "done"
	unknown outcome = "outcome unknown" // erlmcp said so
	notSent outcome = "not sent"        // erlmcp said so
	broken  outcome = "broken"          // the connection broke, and the client could not come back to the call
	failed  outcome = "failed"          // anything else
)

// call is one call of a client.
type call struct {
	client, tool, id string
	by               string // the very client
	began, ended     time.Time
	outcome          outcome
	detail           string
	work             time.Duration // that the upstream does for it
	tries            int           // by the client
	disorder         string
}

func (c *call) repeatable() bool { return c.tool != "write" }

// disturbance is one process harmed for a time.
type disturbance struct {
	process, kind string
	began, ended  time.Time
}

// tally collects what happened.
type tally struct {
	mu           sync.Mutex
	calls        []*call
	disturbances []*disturbance
}

func (t *tally) add(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, c)
}

func (t *tally) harm(process, kind string) (healed func()) {
	d := &disturbance{process: process, kind: kind, began: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disturbances = append(t.disturbances, d)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		d.ended = time.Now()
	}
}

// excused reports whether, while a call ran, a process of a role was harmed in one of the ways.
func (t *tally) excused(c *call, role string, kinds ...string) bool {
	const aftermath = 2 * time.Second // connections die a little later than their process
	for _, d := range t.disturbances {
		if strings.HasPrefix(d.process, role) && slices.Contains(kinds, d.kind) &&
			d.began.Before(c.ended) && d.ended.Add(aftermath).After(c.began) {
			return true
		}
	}
	return false
}

// violations are the promises that were broken.
func (t *tally) violations(u *upstream) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for _, c := range t.calls {
		n := u.executed(c.id)
		say := func(format string, args ...any) {
			found = append(found, fmt.Sprintf("%s %s %s of %s (%s to %s, %d tries): ", c.client, c.tool, c.outcome, c.id, c.began.Format("05.000"), c.ended.Format("05.000"), c.tries)+fmt.Sprintf(format, args...))
		}
		switch {
		case c.disorder != "":
			say("%s", c.disorder)
		case c.outcome == done && n == 0:
			say("answered, and never carried out")
		case c.repeatable() && c.outcome != done:
			say("a call that may be repeated failed: %s", c.detail)
		case c.repeatable():
		case n > 1:
			say("carried out %d times", n)
		case c.outcome == notSent && n != 0:
			say("reported as not sent, and carried out")
		case c.outcome == unknown && !t.excused(c, "session", "kill", "freeze"):
			say("the outcome was lost, though no owner died: %s", c.detail)
		// A TCP connection's end does not say whether the gateway had taken what it did not answer.
		case c.outcome == broken && strings.HasPrefix(c.client, "TCP") && t.excused(c, "gateway", "roll"):
		case c.outcome == broken && !t.excused(c, "gateway", "kill", "freeze"):
			say("the connection broke, though no gateway went away: %s", c.detail)
		case c.outcome == failed, c.outcome == notSent:
			say("%s", c.detail)
		}
	}
	return found
}

// String is the counts.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	type key struct {
		client, tool string
		outcome      outcome
	}
	count := map[key]int{}
	longest := map[string]time.Duration{}
	for _, c := range t.calls {
		count[key{c.client, c.tool, c.outcome}]++
		longest[c.client] = max(longest[c.client], c.ended.Sub(c.began))
	}
	harm := map[string]int{}
	for _, d := range t.disturbances {
		harm[strings.TrimRight(d.process, "0123456789")+" "+d.kind]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls, %d disturbances\n", len(t.calls), len(t.disturbances))
	for _, k := range slices.Sorted(maps.Keys(harm)) {
		fmt.Fprintf(&b, "  %-18s %d\n", k, harm[k])
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b key) int {
		return strings.Compare(a.client+a.tool+string(a.outcome), b.client+b.tool+string(b.outcome))
	})
	for _, k := range keys {
		fmt.Fprintf(&b, "  %-18s %-6s %-16s %6d\n", k.client, k.tool, k.outcome, count[k])
	}
	for _, client := range slices.Sorted(maps.Keys(longest)) {
		fmt.Fprintf(&b, "  %-18s longest call %v\n", client, longest[client].Round(time.Millisecond))
	}
	pauses := t.pauses()
	for _, k := range slices.Sorted(maps.Keys(pauses)) {
		of := pauses[k]
		slices.Sort(of)
		at := func(part float64) time.Duration { return of[int(part*float64(len(of)-1))].Round(time.Millisecond) }
		fmt.Fprintf(&b, "  pause of clients, %-18s p50 %-8v p99 %-8v (%d)\n", k, at(0.5), at(0.99), len(of))
	}
	return b.String()
}

// pauses are, by the kind of disturbance, how long each client waited in vain at most each time: the longest of its
// calls meanwhile, without the upstream's work.
func (t *tally) pauses() map[string][]time.Duration {
	pauses := map[string][]time.Duration{}
	for i, d := range t.disturbances {
		until := d.ended // and what comes of it later, but not the next one's doing
		if i+1 < len(t.disturbances) {
			until = t.disturbances[i+1].began
		}
		worst := map[string]time.Duration{}
		for _, c := range t.calls {
			if c.began.Before(until) && c.ended.After(d.began) && c.began.Before(d.ended) {
				worst[c.by] = max(worst[c.by], c.ended.Sub(c.began)-c.work)
			}
		}
		key := strings.TrimRight(d.process, "0123456789") + " " + d.kind
		for _, pause := range worst {
			pauses[key] = append(pauses[key], pause)
		}
	}
	return pauses
}
