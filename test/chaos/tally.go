package chaos

import (
	"cmp"
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
	client, view string
	tool, id     string
	by           string // the very client
	began, ended time.Time
	outcome      outcome
	detail       string
	work         time.Duration // that the upstream does for it
	tries        int           // by the client
	lost         bool          // the client, or the upstream, waited in vain for an answer that was lost with its connection
	unheard      bool          // it was the client's answer to a question of the upstream
	putOff       bool          // it was refused as not sent, and the client sent it again
	disorder     string
}

// repeatable reports whether erlmcp may carry the call out twice.
func (c *call) repeatable() bool { return c.tool == "read" || c.tool == "put" }

// again reports whether the client may send the call twice.
func (c *call) again() bool { return c.repeatable() || c.tool == keyed }

// upstreamTool is the tool's name.
func (c *call) upstreamTool() string {
	if c.tool == keyed {
		return "write"
	}
	return c.tool
}

// owned reports whether the call went through a session owner: not a modern client's at the server that keeps no sessions,
// but for those under a key.
func (c *call) owned() bool {
	return !strings.HasSuffix(c.client, modernVersion) || c.view != "stateless" || c.tool == keyed
}

// comesBack reports whether the client takes up its session, or its call, when its connection breaks.
func (c *call) comesBack() bool {
	return !strings.HasPrefix(c.client, "TCP") && !strings.HasPrefix(c.client, sdkSSE)
}

// postsOnce reports whether the client does not post an answer again whose connection broke. The SDK does not; the program
// that is between on stdio does.
func (c *call) postsOnce() bool { return !strings.HasPrefix(c.client, sdkStdio) }

// disturbance is one process harmed for a time.
type disturbance struct {
	process, kind string
	began, ended  time.Time
	// calm says that no call was under way when it began that had seen the one before.
	calm bool
}

func (d *disturbance) role() string { return strings.TrimRight(d.process, "0123456789") }

// tally collects what happened.
type tally struct {
	mu           sync.Mutex
	calls        []*call
	underWay     map[string]time.Time // since when a client has a call under way
	disturbances []*disturbance
	began        time.Time
	keys         int // that were used
	// older says that the release before takes part, whose gateways lose, as they stop, what is on its way to a client
	// that can't name events, and whose owners lose a client's answer that comes as they stop.
	older bool
}

func newTally(older bool) *tally {
	return &tally{underWay: map[string]time.Time{}, began: time.Now(), older: older}
}

// mayKey reports whether a call may be made under a key now: of one principal, as all clients here are, 1,000 results are
// kept for 10 minutes.
func (t *tally) mayKey() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most, kept = 450, 10 * time.Minute
	if float64(t.keys) >= most*(1+float64(time.Since(t.began))/float64(kept)) {
		return false
	}
	t.keys++
	return true
}

func (t *tally) begin(by string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay[by] = time.Now()
}

func (t *tally) add(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, c)
	delete(t.underWay, c.by)
}

// quiet reports whether all calls that are under way began later than a time.
func (t *tally) quiet(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, began := range t.underWay {
		if began.Before(since) {
			return false
		}
	}
	return true
}

func (t *tally) harm(process, kind string) (healed func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := &disturbance{process: process, kind: kind, began: time.Now(), calm: true}
	if last := len(t.disturbances) - 1; last >= 0 {
		for _, began := range t.underWay {
			d.calm = d.calm && began.After(t.disturbances[last].ended)
		}
	}
	t.disturbances = append(t.disturbances, d)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		d.ended = time.Now()
	}
}

// harmed reports whether in some time a process of a role was harmed in one of the ways.
func (t *tally) harmed(from, to time.Time, role string, kinds ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wasHarmed(from, to, role, kinds...)
}

// wasHarmed is harmed with mu held.
func (t *tally) wasHarmed(from, to time.Time, role string, kinds ...string) bool {
	const aftermath = 2 * time.Second // connections die a little later than their process
	for _, d := range t.disturbances {
		if strings.HasPrefix(d.process, role) && slices.Contains(kinds, d.kind) &&
			d.began.Before(to) && d.ended.Add(aftermath).After(from) {
			return true
		}
	}
	return false
}

// excused reports whether, while a call ran, a process of a role was harmed in one of the ways.
func (t *tally) excused(c *call, role string, kinds ...string) bool {
	return t.wasHarmed(c.began, c.ended, role, kinds...)
}

// mayBreak reports whether a process that stopped in good order may have cost a call its answer.
func (t *tally) mayBreak(c *call) bool {
	// A connection's end does not say whether the gateway had taken what it did not answer.
	return !c.comesBack() && t.excused(c, "gateway", "roll") ||
		t.older && c.lost && (t.excused(c, "gateway", "roll") || t.excused(c, "session", "roll"))
}

// violations are the promises that were broken.
func (t *tally) violations(u *upstream) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for _, c := range t.calls {
		n := u.executed(c.id)
		say := func(format string, args ...any) {
			found = append(found, fmt.Sprintf("%s at %s, %s %s of %s (%s to %s, %d tries): ", c.client, c.view, c.tool, c.outcome, c.id, c.began.Format("05.000"), c.ended.Format("05.000"), c.tries)+fmt.Sprintf(format, args...))
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
		case c.outcome == unknown && !(c.owned() && t.excused(c, "session", "kill", "freeze")):
			say("the outcome was lost, though no owner died: %s", c.detail)
		case c.tool == keyed && (c.outcome == broken || c.outcome == notSent):
			say("a call under a key had no answer: %s", c.detail)
		case c.unheard && !t.older && !(c.postsOnce() && t.excused(c, "gateway", "kill")):
			say("the client's answer was lost: %s", c.detail)
		case c.outcome == broken && t.mayBreak(c):
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
		harm[d.role()+" "+d.kind]++
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
	fmt.Fprintf(&b, "  the longest pause of each client in a disturbance that stands alone:\n")
	pauses := t.pauses()
	for _, k := range slices.Sorted(maps.Keys(pauses)) {
		of := pauses[k]
		at := func(part float64) time.Duration { return of[int(part*float64(len(of)-1))].long.Round(time.Millisecond) }
		fmt.Fprintf(&b, "  %-18s p50 %-8v p99 %-8v longest %-8v (%d)\n", k, at(0.5), at(0.99), at(1), len(of))
	}
	return b.String()
}

// pause is how long a client waited in vain in a disturbance: in the longest of its calls meanwhile, without the
// upstream's work.
type pause struct {
	of   *call
	long time.Duration
}

// pauses are those of each client, by the kind of disturbance, the shortest first, of disturbances that stand alone: what
// the one before did was over when it began, and what it did was before the next one. Calls whose answer was lost do not
// count, for how long a client waits for what does not come is its own affair, nor do calls that were refused at once until
// their client's keys could be kept, nor those under a key that was lost, which is known 10 s later.
func (t *tally) pauses() map[string][]pause {
	pauses := map[string][]pause{}
	for i, d := range t.disturbances {
		if !d.calm || i+1 < len(t.disturbances) && !t.disturbances[i+1].calm {
			continue
		}
		worst := map[string]pause{}
		for _, c := range t.calls {
			if c.lost || c.putOff || c.tool == keyed && c.outcome == unknown {
				continue
			}
			if long := c.ended.Sub(c.began) - c.work; c.began.Before(d.ended) && c.ended.After(d.began) && long > worst[c.by].long {
				worst[c.by] = pause{c, long}
			}
		}
		key := d.role() + " " + d.kind
		pauses[key] = slices.AppendSeq(pauses[key], maps.Values(worst))
	}
	for _, of := range pauses {
		slices.SortFunc(of, func(a, b pause) int { return cmp.Compare(a.long, b.long) })
	}
	return pauses
}
