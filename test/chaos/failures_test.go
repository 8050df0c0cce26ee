package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// The columns of the failure table.
var columns = []string{"list", "sessionless call", "session call", "new session", "open stream", "admin write"}

// cell is what the failure table (docs/reliability.md) says of a column: it is done, or refused, after some time at the
// latest.
type cell struct {
	after time.Duration
	// status is the HTTP status of the refusal; 0 where it is done.
	status int
}

// atOnce is what "goes on" means in the table.
const atOnce = 100 * time.Millisecond

// cells are those in which not everything is done at once. Where a process is rolled, what is refused is refused while it
// is away only.
var cells = map[string]cell{
	"redis stopped/new session":       {15 * time.Second, http.StatusServiceUnavailable},
	"redis frozen/new session":        {15 * time.Second, http.StatusServiceUnavailable},
	"redis rolled/new session":        {2 * time.Second, 0},
	"redis frozen/session call":       {2200 * time.Millisecond, 0},
	"redis frozen/open stream":        {2200 * time.Millisecond, 0},
	"postgres stopped/admin write":    {atOnce, http.StatusServiceUnavailable},
	"postgres frozen/admin write":     {30 * time.Second, http.StatusGatewayTimeout},
	"postgres rolled/admin write":     {atOnce, http.StatusServiceUnavailable},
	"registries stopped/admin write":  {atOnce, http.StatusServiceUnavailable},
	"registries frozen/admin write":   {2 * time.Second, http.StatusServiceUnavailable},
	"session stopped/open stream":     {time.Second, 0},
	"session frozen/session call":     {8 * time.Second, 0},
	"session frozen/open stream":      {8 * time.Second, 0},
	"session frozen/new session":      {7 * time.Second, 0},
	"gateway frozen/list":             {2 * time.Second, 0},
	"gateway frozen/sessionless call": {2 * time.Second, 0},
	"gateway frozen/session call":     {2 * time.Second, 0},
	"gateway frozen/new session":      {2 * time.Second, 0},
	"gateway frozen/admin write":      {2 * time.Second, 0},
}

// healTime is how long after a process is back everything is done again.
const healTime = time.Second

// expected is what the table says of a column while a process is harmed.
func expected(row victim, kind, column string) cell {
	if c, ok := cells[row.role()+" "+kind+"/"+column]; ok {
		return c
	}
	return cell{after: atOnce}
}

// bound is how long the test waits for what the table says of a time: a busy machine must not fail it.
func bound(after time.Duration) time.Duration { return 2*after + time.Second }

// together are several processes as one victim. They stop and start one after the other, as in a rolling update.
func together(name string, all ...victim) victim {
	each := func(do func(victim) error) error {
		var failed []error
		for _, v := range all {
			failed = append(failed, do(v))
		}
		return errors.Join(failed...)
	}
	return victim{
		name:   name,
		kill:   func() { _ = each(func(v victim) error { v.kill(); return nil }) },
		start:  func(ctx context.Context) error { return each(func(v victim) error { return v.start(ctx) }) },
		pause:  func() { _ = each(func(v victim) error { v.pause(); return nil }) },
		resume: func() { _ = each(func(v victim) error { v.resume(); return nil }) },
		roll:   func(ctx context.Context) error { return each(func(v victim) error { return v.rolled(ctx) }) },
	}
}

// site is what the columns are tried at.
type site struct {
	c       *cluster.Cluster
	tally   *tally
	session *raw   // of a session from before
	stream  *count // of another one
	writes  int
}

// try does what a column says.
func (s *site) try(ctx context.Context, column string) error {
	switch column {
	case "list":
		return s.list(ctx)
	case "sessionless call":
		modern, err := newRaw(ctx, s.c.URL("stateless"), modernVersion)
		if err != nil {
			return err
		}
		_, err = modern.call(ctx, "write", arguments{Call: fmt.Sprintf("try%d", ids.Add(1))}, func(float64) {})
		return err
	case "session call":
		return s.call(ctx)
	case "new session":
		_, err := newRaw(ctx, s.c.URL("stateful"), "2025-11-25")
		return err
	case "admin write":
		return s.write(ctx)
	}
	return fmt.Errorf("no such column: %s", column)
}

// The work of a session call: it is slow enough to be logged, each step of it too.
const (
	callSteps = 3
	stepMS    = 120
	callWork  = callSteps * stepMS * time.Millisecond
)

// call makes a call in the session, and looks at its progress.
func (s *site) call(ctx context.Context) error {
	reported, disorder := 0.0, error(nil)
	_, err := s.session.call(ctx, "read", arguments{Call: fmt.Sprintf("try%d", ids.Add(1)), Steps: callSteps, MS: stepMS}, func(p float64) {
		if p != reported+1 && p != 1 { // the next owner may carry it out again
			disorder = fmt.Errorf("progress %v after %v", p, reported)
		}
		reported = p
	})
	if err == nil && disorder == nil && reported != callSteps {
		disorder = fmt.Errorf("%v of %d progress notifications came", reported, callSteps)
	}
	return errors.Join(err, disorder)
}

// attempt is try by a client that waits for some time, and says how long it took, the upstream's work aside. Of a gateway
// that is frozen it hears nothing, and tries again.
func (s *site) attempt(ctx context.Context, row victim, kind, column string) (took time.Duration, err error) {
	const more = 2 * time.Second // so that it is seen what comes late
	ctx, cancel := context.WithTimeout(ctx, bound(expected(row, kind, column).after)+callWork+more)
	defer cancel()
	began := time.Now()
	for {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if row.role() == "gateway" && kind == "frozen" {
			attempt, cancel = context.WithTimeout(ctx, time.Second+callWork)
		}
		err = s.try(attempt, column)
		over := attempt.Err() == nil || ctx.Err() != nil
		cancel()
		if err == nil || over {
			break
		}
	}
	took = time.Since(began)
	if column == "session call" {
		took -= callWork
	}
	return took, err
}

// judge says what is wrong with what came of an attempt; empty for nothing.
func judge(want cell, kind, column string, took time.Duration, err error) string {
	var refused *statusError
	switch {
	case took > bound(want.after):
		return fmt.Sprintf("it took %v, want %v at most: %v", took, bound(want.after), err)
	case err == nil && (want.status == 0 || kind == "rolled"):
		return ""
	case err == nil:
		return fmt.Sprintf("it was done, want %d", want.status)
	case want.status == 0:
		return fmt.Sprintf("it was not done: %v", err)
	case !errors.As(err, &refused) || refused.code != want.status:
		return fmt.Sprintf("%v, want %d", err, want.status)
	case refused.retryAfter == "" && column != "admin write": // REST has none
		return fmt.Sprintf("%v, without Retry-After", err)
	}
	return ""
}

func (s *site) list(ctx context.Context) error {
	modern := &raw{url: s.c.URL(""), version: modernVersion, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	response, err := modern.post(ctx, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"`+modernVersion+`","io.modelcontextprotocol/clientCapabilities":{}}}}`, "tools/list", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), "stateful_write") {
		return fmt.Errorf("%s: %.200s", response.Status, body)
	}
	return nil
}

// write makes a view.
func (s *site) write(ctx context.Context) error {
	s.writes++
	return s.view(ctx, fmt.Sprintf("view%d", s.writes), "stateful")
}

// admin makes no connection serve two requests: each is given to the next gateway.
var admin = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// view makes or changes a view of one server.
func (s *site) view(ctx context.Context, name, server string) error {
	body := fmt.Sprintf(`{"name":%q,"servers":[%q]}`, name, server)
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s/api/v1/views/%s", s.c.API.Address(), name), strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := admin.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return statusOf(response)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// The failure table: with a process stopped, frozen or rolled each thing is done or refused as docs/reliability.md says,
// and once the process is back everything is done again.
func TestFailureTable(t *testing.T) {
	c, u := start(t, build(t))
	s := &site{c: c, tally: newTally(false)}
	var err error
	if s.session, err = newRaw(t.Context(), c.URL("stateful"), "2025-11-25"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.stream = newCount(ctx, t, u, c.URL("keeping"), "keeping", "2025-11-25")
	registries := together("registries", node(c.Registries[0]), node(c.Registries[1]))
	var table strings.Builder
	for _, row := range []victim{server("redis", c.Redis), server("postgres", c.Postgres), registries, node(c.Metrics), node(c.Gateways[0])} {
		for _, kind := range []string{"stopped", "frozen", "rolled"} {
			s.row(t, &table, row, kind)
		}
	}
	// Whichever owner has a session at first, it moves with one of each kind at least.
	for _, one := range []fault{
		{node(c.Sessions[0]), "stopped"}, {node(c.Sessions[1]), "frozen"}, {node(c.Sessions[0]), "frozen"}, {node(c.Sessions[1]), "stopped"},
		{node(c.Sessions[0]), "rolled"}, {node(c.Sessions[1]), "rolled"},
	} {
		s.row(t, &table, one.victim, one.kind)
	}
	s.stream.finish(ctx)
	cancel()
	s.stream.all.Wait()
	doubled, _, strange := s.stream.check(s.tally.harmed)
	t.Logf("\n%sof %d numbers on the open stream %d came twice", &table, len(s.stream.said), doubled)
	complain(t, "open stream", append(strange, s.stream.strange...))
}

// row harms a process, tries all columns meanwhile, heals it and waits until all columns work again. Columns are tried
// once while a process is away, and over and over while it is rolled. On the open stream there is a number to be heard
// all the time.
func (s *site) row(t *testing.T, table *strings.Builder, row victim, kind string) {
	t.Helper()
	name := row.name + " " + kind
	if row.role() == "gateway" {
		s.stream.comeBackAt(s.c.Gateways[0].URL("keeping")) // the one that is harmed
		testkit.Eventually(t, s.stream.breakOff(), 10*time.Second)
	}
	if row.role() == "session" {
		s.ownersServe(t)
	}
	s.heardAll(t, name+", before")
	breaks := s.stream.broke()
	healed := s.tally.harm(row.name, map[string]string{"stopped": "kill", "frozen": "freeze", "rolled": "roll"}[kind])
	harmed := time.Now()
	heal := func() error { return row.start(t.Context()) }
	switch kind {
	case "stopped":
		row.kill()
	case "frozen":
		row.pause()
		heal = func() error { row.resume(); return nil }
	case "rolled":
		heal = func() error { return row.rolled(t.Context()) }
	}
	if row.role() == "gateway" {
		s.stream.comeBackAt(s.c.Gateways[1].URL("keeping"))
		if kind == "frozen" {
			s.stream.breakOff() // the client's patience ended
		}
	}
	said := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	over := make(chan struct{})
	for _, column := range columns {
		if column == "open stream" {
			continue
		}
		all.Go(func() {
			text := s.tryOut(t.Context(), t, row, kind, column, over)
			mu.Lock()
			defer mu.Unlock()
			said[column] = text
		})
	}
	if kind != "rolled" {
		all.Wait()
	}
	if err := heal(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	healed()
	back := time.Now()
	close(over)
	all.Wait()
	slowest := time.Duration(0)
	for _, column := range columns {
		if column == "open stream" {
			continue
		}
		all.Go(func() {
			took, err := s.again(t.Context(), back, column)
			if err != nil || took > bound(healTime) {
				t.Errorf("%s, %s: once it was back it took %v until it was done, want %v at most: %v", name, column, took, bound(healTime), err)
			}
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
		})
	}
	all.Wait()
	s.heardAll(t, name)
	want := expected(row, kind, "open stream")
	late := s.stream.latest(harmed, back)
	said["open stream"] = fmt.Sprintf("%v late at most", late.Round(time.Millisecond))
	if late > bound(want.after) {
		t.Errorf("%s, open stream: an event came %v late, want %v at most", name, late, bound(want.after))
	}
	switch broke := s.stream.broke() - breaks; {
	case broke > 0 && row.role() != "gateway":
		t.Errorf("%s, open stream: it broke %d times", name, broke)
	case broke == 0 && row.role() == "gateway":
		t.Errorf("%s, open stream: it did not break, so that nothing was resumed", name)
	}
	fmt.Fprintf(table, "| %s (%v) |", name, back.Sub(harmed).Round(100*time.Millisecond))
	for _, column := range columns {
		fmt.Fprintf(table, " %s |", said[column])
	}
	fmt.Fprintf(table, " healed after %v |\n", slowest.Round(10*time.Millisecond))
}

// tryOut tries a column once, or, where a process is rolled, until that is over, and says what came of it.
func (s *site) tryOut(ctx context.Context, t *testing.T, row victim, kind, column string, over <-chan struct{}) string {
	want := expected(row, kind, column)
	times, refused, longest := 0, 0, time.Duration(0)
	for {
		began := time.Now()
		took, err := s.attempt(ctx, row, kind, column)
		if wrong := judge(want, kind, column, took, err); wrong != "" {
			t.Errorf("%s %s, %s at %s: %s", row.name, kind, column, began.Format("05.000"), wrong)
		}
		times++
		longest = max(longest, took)
		if err != nil {
			refused++
		}
		again := kind == "rolled"
		select {
		case <-over:
			again = false
		case <-time.After(10 * time.Millisecond):
		}
		switch {
		case again:
		case kind == "rolled":
			return fmt.Sprintf("%d times, %d refused, %v at most", times, refused, longest.Round(time.Millisecond))
		case err != nil:
			return fmt.Sprintf("refused, %v: %.120v", longest.Round(time.Millisecond), err)
		default:
			return fmt.Sprintf("done, %v", longest.Round(time.Millisecond))
		}
	}
}

// again tries a column until it is done, and says how long after a time that was.
func (s *site) again(ctx context.Context, since time.Time, column string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := s.try(attempt, column)
		cancel()
		if err == nil || ctx.Err() != nil {
			took := time.Since(since)
			if column == "session call" {
				took -= callWork
			}
			return took, err
		}
		wait(ctx, 10*time.Millisecond)
	}
}

// ownersServe waits until sessions are opened at each owner over each gateway: what is seen then comes of the one that is
// harmed, and not of one that is still being found after the row before.
func (s *site) ownersServe(t *testing.T) {
	t.Helper()
	for _, g := range s.c.Gateways {
		for _, o := range s.c.Sessions {
			testkit.Eventually(t, func() error {
				before, err := opened(t.Context(), o)
				if err != nil {
					return err
				}
				if _, err := newRaw(t.Context(), g.URL("stateful"), "2025-11-25"); err != nil {
					return err
				}
				if now, err := opened(t.Context(), o); err != nil || now == before {
					return fmt.Errorf("%s opened no session at %s: %w", g.Name(), o.Name(), err)
				}
				return nil
			}, 30*time.Second)
		}
	}
}

// opened is how many sessions an owner opened, as its metrics say.
func opened(ctx context.Context, owner *cluster.Node) (count string, err error) {
	_, body, err := owner.Get(ctx, "/metrics")
	if err != nil {
		return "", err
	}
	_, count, found := strings.Cut(body, "\nerlmcp_sessions_created_total ")
	if !found {
		return "", errors.New("/metrics does not count sessions")
	}
	count, _, _ = strings.Cut(count, "\n")
	return count, nil
}

// heardAll waits until the open stream's client has heard what was said so far.
func (s *site) heardAll(t *testing.T, when string) {
	t.Helper()
	last := s.stream.told()
	testkit.Eventually(t, func() error {
		if !s.stream.hasHeard(last) {
			return fmt.Errorf("%s: number %d was not heard on the open stream", when, last)
		}
		return nil
	}, 30*time.Second)
}
