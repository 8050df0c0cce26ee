package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
	"erlmcp.dev/services/session/tasks"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call stands in for the call behind a task.
type call struct {
	mu        sync.Mutex
	inputs    json.RawMessage
	cancelled atomic.Int32
}

func (c *call) Inputs() json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inputs
}

func (c *call) want(inputs string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inputs = json.RawMessage(inputs)
}

func (c *call) Answer(responses json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, _ := jsonrpc.ParseObject(c.inputs)
	given, _ := jsonrpc.ParseObject(responses)
	for _, key := range given.Keys() {
		o.Delete(key)
	}
	c.inputs = nil
	if o.Len() > 0 {
		c.inputs = o.JSON()
	}
}

func (c *call) Cancel() { c.cancelled.Add(1) }

// keeper is one process that keeps tasks.
type keeper struct {
	*tasks.Keeper
	lease    store.Lease
	full     atomic.Bool // can't carry out anything again
	repeated atomic.Int32
	task     atomic.Pointer[tasks.Task] // that was carried out again last
}

func start(t *testing.T, held store.Store, name string) *keeper {
	t.Helper()
	k := &keeper{}
	var err error
	if k.lease, err = held.Join(t.Context(), store.Node{Name: name, Address: name + ":1"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	k.Keeper = tasks.New(tasks.Config{Node: name, Store: held, Repeat: func(task *tasks.Task, _, _ string, _ json.RawMessage) (tasks.Call, error) {
		if k.full.Load() {
			return nil, errors.New("too many calls")
		}
		k.repeated.Add(1)
		k.task.Store(task)
		return &call{}, nil
	}})
	t.Cleanup(k.Stop)
	return k
}

func begin(t *testing.T, k *keeper, c tasks.Call, request string) *tasks.Task {
	t.Helper()
	spec := tasks.Spec{Principal: "alice", Server: "weather", TTL: time.Hour}
	if request != "" {
		spec.Request = json.RawMessage(request)
	}
	made, err := k.Create(t.Context(), spec, c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func get(t *testing.T, k *keeper, id string) (state json.RawMessage, status, address string) {
	t.Helper()
	state, address, err := k.Get(t.Context(), "alice", id)
	if err != nil {
		t.Fatal(err)
	}
	status, _ = jsonrpc.GetString(state, "status")
	return state, status, address
}

func result(text string) upstream.Reply {
	return upstream.Reply{Result: json.RawMessage(`{"content":[],"said":"` + text + `"}`)}
}

func TestATaskIsSeenAlikeEverywhere(t *testing.T) {
	held := memory.New(store.Limits{})
	a, b := start(t, held, "a"), start(t, held, "b")
	c := &call{}
	task := begin(t, a, c, "")
	if _, status, address := get(t, b, task.ID); status != tasks.Working || address != "a:1" {
		t.Fatalf("got %s at %s", status, address)
	}
	c.want(`{"x":{"method":"elicitation/create"},"y":{"method":"roots/list"}}`)
	if err := task.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(t.Context(), "alice", task.ID, json.RawMessage(`{}`)); !errors.Is(err, tasks.ErrElsewhere) {
		t.Fatalf("updating it elsewhere: %v", err)
	}
	if err := a.Update(t.Context(), "alice", task.ID, json.RawMessage(`{"x":{}}`)); err != nil {
		t.Fatal(err)
	}
	if state, status, _ := get(t, b, task.ID); status != tasks.InputRequired || string(jsonrpc.Get(state, "inputRequests")) != `{"y":{"method":"roots/list"}}` {
		t.Fatalf("got %s", state)
	}
	task.Finish(result("a < b"))
	if state, status, address := get(t, b, task.ID); status != tasks.Completed || address != "" || string(jsonrpc.Get(state, "result", "said")) != `"a < b"` || jsonrpc.Get(state, "inputRequests") != nil {
		t.Fatalf("got %s at %q", state, address)
	}
	for _, err := range []error{b.Cancel(t.Context(), "alice", task.ID), a.Update(t.Context(), "alice", task.ID, json.RawMessage(`{}`))} {
		if err != nil {
			t.Errorf("after its end: %v", err)
		}
	}
}

func TestATaskIsItsPrincipalsOnly(t *testing.T) {
	a := start(t, memory.New(store.Limits{}), "a")
	task := begin(t, a, &call{}, "")
	_, _, err := a.Get(t.Context(), "bob", task.ID)
	for _, err := range []error{
		err, a.Cancel(t.Context(), "bob", task.ID), a.Update(t.Context(), "bob", task.ID, json.RawMessage(`{}`)),
		a.Watch(t.Context(), "bob", task.ID, nil),
	} {
		if !errors.Is(err, tasks.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	task.Finish(result(""))
}

// However its end, its cancelling and its questions race, a task has one final state, and every look shows it.
func TestATaskEndsOnce(t *testing.T) {
	a := start(t, memory.New(store.Limits{}), "a")
	for range 50 {
		c := &call{}
		task := begin(t, a, c, "")
		var racing sync.WaitGroup
		racing.Go(func() { task.Finish(result("done")) })
		racing.Go(func() { _ = a.Cancel(t.Context(), "alice", task.ID) })
		racing.Go(func() {
			c.want(`{"x":{}}`)
			_ = task.Refresh(t.Context())
			_ = a.Update(t.Context(), "alice", task.ID, json.RawMessage(`{"x":{}}`))
		})
		var last json.RawMessage
		racing.Go(func() {
			err := a.Watch(t.Context(), "alice", task.ID, func(state json.RawMessage) error { last = state; return nil })
			if err != nil && !errors.Is(err, tasks.ErrElsewhere) {
				t.Error(err)
			}
		})
		racing.Wait()
		state, status, _ := get(t, a, task.ID)
		if status != tasks.Completed && status != tasks.Cancelled || (status == tasks.Completed) != (jsonrpc.Get(state, "result") != nil) {
			t.Fatalf("got %s", state)
		}
		if seen, _ := jsonrpc.GetString(last, "status"); seen != status {
			t.Fatalf("a watcher saw %s last, and it is %s", last, status)
		}
	}
}

func TestADeadOwnersTaskHasAnUnknownOutcome(t *testing.T) {
	held := memory.New(store.Limits{})
	a, b := start(t, held, "a"), start(t, held, "b")
	c := &call{}
	task := begin(t, a, c, "")
	if err := held.Leave(t.Context(), a.lease); err != nil {
		t.Fatal(err)
	}
	state, status, _ := get(t, b, task.ID)
	if status != tasks.Failed || string(jsonrpc.Get(state, "error", "data", upstream.OutcomeKey)) != `"unknown"` {
		t.Fatalf("got %s", state)
	}
	task.Finish(result("late")) // it was only frozen
	if now, _, _ := get(t, a, task.ID); string(now) != string(state) {
		t.Fatalf("the old owner made it %s", now)
	}
	if c.cancelled.Load() == 0 {
		t.Error("the old owner's call goes on for nobody")
	}
}

// Of many who look at once, one owner carries the call out again, once; and not for ever, should it bring owners down.
func TestACallThatRepeatsNothingIsCarriedOutAgain(t *testing.T) {
	held := memory.New(store.Limits{})
	first := start(t, held, "first")
	task := begin(t, first, &call{}, `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
	owner := first
	for epoch, name := range []string{"second", "third"} {
		if err := held.Leave(t.Context(), owner.lease); err != nil {
			t.Fatal(err)
		}
		owners := []*keeper{start(t, held, name+"-a"), start(t, held, name+"-b")}
		var looking sync.WaitGroup
		for i := range 20 {
			looking.Go(func() {
				if _, status, _ := get(t, owners[i%2], task.ID); status != tasks.Working {
					t.Errorf("it is %s", status)
				}
			})
		}
		looking.Wait()
		if n := owners[0].repeated.Load() + owners[1].repeated.Load(); n != 1 {
			t.Fatalf("it was carried out again %d times", n)
		}
		owner = owners[owners[1].repeated.Load()]
		if got := owner.task.Load().Epoch(); got != uint64(epoch)+2 {
			t.Fatalf("its epoch is %d", got)
		}
	}
	if err := held.Leave(t.Context(), owner.lease); err != nil {
		t.Fatal(err)
	}
	last := start(t, held, "last")
	if _, status, _ := get(t, last, task.ID); status != tasks.Failed || last.repeated.Load() != 0 {
		t.Errorf("a fourth owner made it %s", status)
	}
}

// lateStore answers a look at a task late: when look says so.
type lateStore struct {
	store.Store
	look func()
}

func (s *lateStore) GetTask(ctx context.Context, id string) (store.HeldTask, error) {
	s.look()
	return s.Store.GetTask(ctx, id)
}

// Who saw that a task runs nowhere here, and looks into the store only once it was adopted here, takes it from nobody.
func TestATaskIsNotAdoptedFromItsOwnProcess(t *testing.T) {
	held := memory.New(store.Limits{})
	first := start(t, held, "first")
	task := begin(t, first, &call{}, `{}`)
	if err := held.Leave(t.Context(), first.lease); err != nil {
		t.Fatal(err)
	}
	late := &lateStore{Store: held}
	second := start(t, late, "second")
	late.look = func() {
		late.look = func() {}
		get(t, second, task.ID) // another goroutine's, in the worst moment
	}
	if _, status, _ := get(t, second, task.ID); status != tasks.Working {
		t.Errorf("it is %s", status)
	}
	if n := second.repeated.Load(); n != 1 {
		t.Errorf("it was carried out again %d times", n)
	}
}

func TestATaskIsHandedOver(t *testing.T) {
	held := memory.New(store.Limits{})
	a, b := start(t, held, "a"), start(t, held, "b")
	again, once := begin(t, a, &call{}, `{}`), begin(t, a, &call{}, "")
	watched := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		watched <- a.Watch(t.Context(), "alice", again.ID, func(json.RawMessage) error { close(began); return nil })
	}()
	<-began
	stopped := upstream.Reply{Error: json.RawMessage(`{"code":-32603,"message":"stopped"}`)}
	again.Leave(t.Context(), stopped)
	once.Leave(t.Context(), stopped)
	if err := <-watched; !errors.Is(err, tasks.ErrElsewhere) {
		t.Errorf("who watched it is told %v", err)
	}
	if _, status, address := get(t, b, again.ID); status != tasks.Working || address != "b:1" || b.repeated.Load() != 1 {
		t.Errorf("it is %s at %s", status, address)
	}
	if _, status, _ := get(t, b, once.ID); status != tasks.Failed {
		t.Errorf("one that can't be repeated is %s", status)
	}
	b.task.Load().Finish(result(""))
}

func TestAProcessThatCantTakeATaskLeavesIt(t *testing.T) {
	held := memory.New(store.Limits{})
	a, stopping, full, b := start(t, held, "a"), start(t, held, "stopping"), start(t, held, "full"), start(t, held, "b")
	task := begin(t, a, &call{}, `{}`)
	task.Leave(t.Context(), upstream.Reply{})
	stopping.Stop()
	full.full.Store(true)
	for _, k := range []*keeper{stopping, full} {
		if _, _, err := k.Get(t.Context(), "alice", task.ID); !errors.Is(err, tasks.ErrBusy) {
			t.Errorf("got %v", err)
		}
	}
	if _, status, address := get(t, b, task.ID); status != tasks.Working || address != "b:1" {
		t.Errorf("it is %s at %s", status, address)
	}
	b.task.Load().Finish(result(""))
}

func TestATooLargeResultFailsTheTask(t *testing.T) {
	a := start(t, memory.New(store.Limits{TaskBytes: 2000}), "a")
	task := begin(t, a, &call{}, "")
	task.Finish(result(strings.Repeat("x", 2000)))
	state, status, _ := get(t, a, task.ID)
	if message, _ := jsonrpc.GetString(state, "error", "message"); status != tasks.Failed || !strings.Contains(message, "was carried out") || jsonrpc.Get(state, "result") != nil {
		t.Errorf("got %s", state)
	}
}

// shaky is a store that can't be reached for a while.
type shaky struct {
	store.Store
	away atomic.Bool
}

func (s *shaky) SaveTask(ctx context.Context, id, node string, epoch uint64, state []byte) error {
	if s.away.Load() {
		return errors.New("the store is away")
	}
	return s.Store.SaveTask(ctx, id, node, epoch, state)
}

func TestAnOutcomeOutlivesTheStoresAbsence(t *testing.T) {
	held := &shaky{Store: memory.New(store.Limits{})}
	a := start(t, held, "a")
	task := begin(t, a, &call{}, "")
	held.away.Store(true)
	finished := make(chan struct{})
	go func() {
		task.Finish(result("kept"))
		close(finished)
	}()
	if err := a.Cancel(t.Context(), "alice", task.ID); err == nil {
		t.Error("cancelling it was acknowledged")
	}
	held.away.Store(false)
	<-finished
	testkit.Eventually(t, func() bool { _, status, _ := get(t, a, task.ID); return status == tasks.Completed }, 10*time.Second)

	lost := begin(t, a, &call{}, "")
	held.away.Store(true)
	a.Stop() // and nobody waits for the store then
	lost.Finish(result("lost"))
}
