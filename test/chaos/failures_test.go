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

// refusedCells are the cells of the failure table (docs/reliability.md) in which something is refused. Everything
// else is done, if need be after a pause.
var refusedCells = map[string]bool{
	"redis stopped/new session":      true,
	"redis frozen/new session":       true,
	"postgres stopped/admin write":   true,
	"postgres frozen/admin write":    true,
	"registries stopped/admin write": true,
	"registries frozen/admin write":  true,
}

// together are several processes as one victim.
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
	}
}

// site is what the columns are tried at.
type site struct {
	c       *cluster.Cluster
	session *raw // of a session from before
	writes  int
}

// try does what a column says.
func (s *site) try(ctx context.Context, column string) error {
	once := arguments{Call: fmt.Sprintf("try%d", ids.Add(1))}
	none := func(float64) {}
	switch column {
	case "list":
		return s.list(ctx)
	case "sessionless call":
		modern, err := newRaw(ctx, s.c.URL("stateless"), modernVersion)
		if err != nil {
			return err
		}
		_, err = modern.call(ctx, "write", once, none)
		return err
	case "session call":
		_, err := s.session.call(ctx, "read", once, none)
		return err
	case "new session":
		_, err := newRaw(ctx, s.c.URL("stateful"), "2025-11-25")
		return err
	case "admin write":
		return s.write(ctx)
	}
	return fmt.Errorf("no such column: %s", column)
}

// within is try by a client that waits for some time. Of a gateway that is gone it hears nothing, and tries again soon.
func (s *site) within(ctx context.Context, patience time.Duration, victim, column string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !strings.HasPrefix(victim, "gateway") {
		return s.try(ctx, column)
	}
	for {
		soon, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := s.try(soon, column)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
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

// view makes or changes a view of one server.
func (s *site) view(ctx context.Context, name, server string) error {
	body := fmt.Sprintf(`{"name":%q,"servers":[%q]}`, name, server)
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s/api/v1/views/%s", s.c.API.Address(), name), strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", response.Status, text)
	}
	return nil
}

// stream opens the session's standing stream and gives why it ended, once it has.
func (s *site) stream(ctx context.Context) (ended chan error, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.session.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := s.session.do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, errors.New(response.Status)
	}
	ended = make(chan error, 1)
	go func() {
		defer response.Body.Close()
		_, err := io.Copy(io.Discard, response.Body)
		ended <- fmt.Errorf("it ended: %w", errors.Join(err, io.EOF))
	}()
	return ended, nil
}

// The failure table: with a process stopped or frozen each thing is done or refused as docs/reliability.md says, and
// once the process is back everything is done again.
func TestFailureTable(t *testing.T) {
	c, _ := start(t, build(t))
	s := &site{c: c}
	var err error
	if s.session, err = newRaw(t.Context(), c.URL("stateful"), "2025-11-25"); err != nil {
		t.Fatal(err)
	}
	registries := together("registries", node(c.Registries[0]), node(c.Registries[1]))
	var table strings.Builder
	for _, row := range []victim{server("redis", c.Redis), server("postgres", c.Postgres), registries, node(c.Metrics), node(c.Gateways[0])} {
		s.row(t, &table, row, "stopped")
		s.row(t, &table, row, "frozen")
	}
	// Whichever owner has the session at first, it moves with three of these.
	for _, one := range []fault{
		{node(c.Sessions[0]), "stopped"}, {node(c.Sessions[1]), "frozen"}, {node(c.Sessions[0]), "frozen"}, {node(c.Sessions[1]), "stopped"},
	} {
		s.row(t, &table, one.victim, one.kind)
	}
	t.Logf("\n%s", &table)
}

// row harms a process, tries all columns at once, heals it and waits until all columns work again.
func (s *site) row(t *testing.T, table *strings.Builder, row victim, kind string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := s.stream(ctx)
	if err != nil {
		t.Fatalf("before %s is %s, the stream: %v", row.name, kind, err)
	}
	harmed := time.Now()
	heal := func() error { row.resume(); return nil }
	if kind == "stopped" {
		row.kill()
		heal = func() error { return row.start(t.Context()) }
	} else {
		row.pause()
	}
	cells := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, column := range columns {
		if column == "open stream" {
			continue
		}
		all.Go(func() {
			began := time.Now()
			refused := refusedCells[row.name+" "+kind+"/"+column]
			patience := 20 * time.Second
			if refused {
				patience = 5 * time.Second // what is refused later is not done either
			}
			err := s.within(ctx, patience, row.name, column)
			took := time.Since(began).Round(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			cells[column] = fmt.Sprintf("done, %v", took)
			if err != nil {
				cells[column] = fmt.Sprintf("refused, %v: %.120v", took, err)
			}
			if refused != (err != nil) {
				t.Errorf("%s %s, %s: refused is %v, want %v: %v", row.name, kind, column, err != nil, refused, err)
			}
		})
	}
	all.Wait()
	cells["open stream"] = "goes on"
	select {
	case err := <-stream:
		cells["open stream"] = err.Error()
		if !strings.HasPrefix(row.name, "gateway") {
			t.Errorf("%s %s: the stream: %v", row.name, kind, err)
		}
	default:
	}
	outage := time.Since(harmed)
	if err := heal(); err != nil {
		t.Fatalf("%s: %v", row.name, err)
	}
	healed := time.Now()
	for _, column := range columns {
		if column == "open stream" {
			continue
		}
		testkit.Eventually(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return s.try(ctx, column)
		}, 30*time.Second)
	}
	fmt.Fprintf(table, "| %s %s (%v) |", row.name, kind, outage.Round(100*time.Millisecond))
	for _, column := range columns {
		fmt.Fprintf(table, " %s |", cells[column])
	}
	fmt.Fprintf(table, " healed after %v |\n", time.Since(healed).Round(100*time.Millisecond))
}
