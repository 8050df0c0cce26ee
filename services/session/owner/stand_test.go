package owner_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	"erlmcp.dev/shared/jsonrpc"
)

// ear listens to a session's standing stream as a client does that can't name events.
type ear struct {
	t      *testing.T
	events chan owner.Event
	cancel context.CancelFunc
	done   chan error
}

func listen(t *testing.T, o *owner.Owner, id, after string) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e := &ear{t, make(chan owner.Event), cancel, make(chan error, 1)}
	go func() {
		e.done <- o.Listen(ctx, id, owner.Listening{After: after, Unnamed: true}, func(event owner.Event) error {
			select {
			case e.events <- event:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(cancel)
	return e
}

func (e *ear) next() owner.Event {
	e.t.Helper()
	select {
	case event := <-e.events:
		return event
	case err := <-e.done:
		e.t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Second):
		e.t.Fatal("nothing is said")
	}
	panic("unreachable")
}

// position is the first event, which says nothing.
func (e *ear) position() string {
	e.t.Helper()
	event := e.next()
	if event.ID == "" || event.Message != nil {
		e.t.Fatalf("the stream begins with %s %q", event.ID, event.Message)
	}
	return event.ID
}

func (e *ear) hears(messages ...string) {
	e.t.Helper()
	for _, want := range messages {
		if event := e.next(); string(event.Message) != want {
			e.t.Errorf("heard %s %q, want %q", event.ID, event.Message, want)
		}
	}
}

func (e *ear) leave() {
	e.t.Helper()
	e.cancel()
	if err := <-e.done; err != nil && !errors.Is(err, context.Canceled) {
		e.t.Error(err)
	}
}

func post(t *testing.T, o *owner.Owner, id string, messages ...string) {
	t.Helper()
	for _, message := range messages {
		if err := o.Post(t.Context(), id, []byte(message)); err != nil {
			t.Error(err)
		}
	}
}

// What waits for a client is had once at whichever owner, whether the owner before handed it over or died.
func TestWhatWaitsForAClientOutlivesItsOwner(t *testing.T) {
	for _, way := range []string{"handed over", "died"} {
		t.Run(way, func(t *testing.T) {
			held := memory.New(store.Limits{})
			begin := func(name string) (*owner.Owner, func()) {
				if way == "handed over" {
					return start(t, name, held)
				}
				// Without a lease it counts as dead, and others adopt what it has.
				return owner.New(owner.Config{Node: store.Node{Name: name, Address: name}, Store: held, Catalog: emptyCatalog{}}), func() {}
			}
			first, stop := begin("first")
			opened, err := first.Open(t.Context(), store.Record{Principal: "someone"})
			if err != nil {
				t.Fatal(err)
			}
			id := opened.Record.ID
			client := listen(t, first, id, "")
			client.position()
			post(t, first, id, `"a"`, `"b"`)
			client.hears(`"a"`, `"b"`)
			client.leave()
			post(t, first, id, `"c"`)
			client = listen(t, first, id, "")
			client.position()
			client.hears(`"c"`)
			client.leave()
			post(t, first, id, `"d"`, `"e"`)
			stop()

			second, stop := begin("second")
			post(t, second, id, `"f"`)
			client = listen(t, second, id, "")
			client.position()
			client.hears(`"d"`, `"e"`, `"f"`)
			client.leave()
			stop()

			third, stop := begin("third")
			defer stop()
			again := listen(t, third, id, "")
			at := again.position()
			post(t, third, id, `"g"`)
			again.hears(`"g"`)
			again.cancel()
			// A gateway that heard nothing but a position goes on from there.
			listen(t, third, id, at).hears(`"g"`)
		})
	}
}

// Numbers grow along the standing stream however many speak at once: who comes back behind one misses nothing.
func TestTheStandingStreamIsInOrder(t *testing.T) {
	held := memory.New(store.Limits{})
	o, stop := start(t, "one", held)
	defer stop()
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	id := opened.Record.ID
	const count = 200
	for range count {
		go func() { _ = o.Post(context.Background(), id, []byte(`"x"`)) }()
	}
	client := listen(t, o, id, "")
	number := func(id string) int {
		_, digits, _ := strings.Cut(id, ":")
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatalf("the event id %q", id)
		}
		return n
	}
	last := number(client.position())
	for range count {
		n := number(client.next().ID)
		if n <= last {
			t.Fatalf("%d follows %d", n, last)
		}
		last = n
	}
}

// A request whose answer goes to the standing stream is taken once and answered there once, whoever asks again.
func TestAnAnswerOnTheStandingStream(t *testing.T) {
	held := memory.New(store.Limits{})
	first, stop := start(t, "first", held)
	opened, err := first.Open(t.Context(), store.Record{Principal: "someone", Version: "2024-11-05"})
	if err != nil {
		t.Fatal(err)
	}
	id := opened.Record.ID
	ask := func(o *owner.Owner, message string, again bool) (told []owner.Event) {
		t.Helper()
		m, err := jsonrpc.Parse([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		err = o.Request(t.Context(), id, owner.Asked{Message: &m, Kind: owner.StreamStanding, Again: again}, func(e owner.Event) error {
			told = append(told, e)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	const request = `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`
	told := ask(first, request, false)
	if len(told) != 2 || told[0].Message != nil || told[0].Answered != nil || told[1].Answered == nil || told[1].Answered.Failed {
		t.Errorf("told %+v", told)
	}
	told = ask(first, strings.NewReplacer("info", "loud", `"id":1`, `"id":2`).Replace(request), false)
	if len(told) != 2 || told[1].Answered == nil || !told[1].Answered.Failed {
		t.Errorf("of a failure, told %+v", told)
	}
	client := listen(t, first, id, "")
	client.position()
	client.hears(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	if event := client.next(); jsonrpc.Get(event.Message, "error") == nil {
		t.Errorf("heard %s", event.Message)
	}
	client.leave()
	stop()

	second, stop := start(t, "second", held)
	defer stop()
	if told := ask(second, request, true); len(told) != 1 || told[0].Answered == nil {
		t.Errorf("asked again, told %+v", told)
	}
	ask(second, strings.Replace(request, `"id":1`, `"id":3`, 1), true)
	client = listen(t, second, id, "")
	client.position()
	client.hears(`{"jsonrpc":"2.0","id":3,"result":{}}`)
}

// Who leaves still gets what it was passed, and the next one what follows; another reader's name changes nothing.
func TestAReaderThatLeavesMissesNothing(t *testing.T) {
	o, stop := start(t, "one", memory.New(store.Limits{}))
	defer stop()
	opened, err := o.Open(t.Context(), store.Record{Principal: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	id := opened.Record.ID
	passed, done := make(chan owner.Event), make(chan error, 1)
	go func() {
		done <- o.Listen(t.Context(), id, owner.Listening{Unnamed: true, Reader: "first"}, func(e owner.Event) error {
			passed <- e
			return nil
		})
	}()
	<-passed // its position
	post(t, o, id, `"a"`)
	if e := <-passed; string(e.Message) != `"a"` {
		t.Fatalf("%q came", e.Message)
	}
	if err := o.Leave(id, "another"); err != nil {
		t.Error(err)
	}
	post(t, o, id, `"b"`)
	if e := <-passed; string(e.Message) != `"b"` {
		t.Errorf("%q came", e.Message)
	}
	if err := o.Leave(id, "first"); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	post(t, o, id, `"c"`)
	next := listen(t, o, id, "")
	next.position()
	next.hears(`"c"`)
	next.leave()
}
