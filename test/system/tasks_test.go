package system

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// taskServers declares servers with tasks of their own, and servers whose slow calls become tasks of erlmcp.
func taskServers(t *testing.T) string {
	t.Helper()
	text := "servers:\n" +
		"  - {name: own-program, command: [\"" + fixtures + "\", -stdio]}\n" +
		"  - {name: program, command: [\"" + fixtures + "\", -stdio, -no-tasks]}\n" +
		"  - {name: own, url: \"" + cluster.RunFixtures(t, fixtures, "dual").URL + "\"}\n"
	for _, era := range []string{"modern", "legacy"} {
		text += "  - {name: " + era + ", url: \"" + cluster.RunFixtures(t, fixtures, era, "-no-tasks").URL + "\"}\n"
	}
	return text
}

var promoteSoon = []string{"ERLMCP_TASKS_PROMOTE_AFTER=50ms"}

func twoGateways(c *cluster.Cluster, view string) []string {
	return []string{c.Gateways[0].URL(view), c.Gateways[1].URL(view)}
}

// A call goes on as a task, at whichever kind of server and gateway, and its client gets the outcome, answers
// questions, cancels it and is told of changes.
func TestCallsGoOnAsTasks(t *testing.T) {
	config := taskServers(t)
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Config: config, Env: promoteSoon})
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config, Env: promoteSoon}, cluster.Layout{})
	for _, p := range []struct {
		place
		urls func(view string) []string
	}{
		{place{"up", up.URL, cluster.Address(up.Ports.API)}, func(view string) []string { return []string{up.URL(view)} }},
		{place{"cluster", many.URL, cluster.Address(many.Gateways[0].Ports.API)}, func(view string) []string { return twoGateways(many, view) }},
	} {
		t.Run(p.name, func(t *testing.T) {
			awaitServers(t, p.place, 5)
			for _, view := range []string{"own", "own-program", "modern", "legacy", "program"} {
				t.Run(view, func(t *testing.T) {
					t.Parallel()
					taskPromises(t, &taskClient{urls: p.urls(view)})
				})
			}
		})
	}
}

func taskPromises(t *testing.T, c *taskClient) {
	t.Run("its outcome", func(t *testing.T) {
		result := c.call(t, "greet", object{"name": "Ada"})
		if id, ok := result["taskId"].(string); ok { // nothing is quick on a busy machine
			result, _ = c.await(t, id, "completed")["result"].(object)
		}
		if result["resultType"] != "complete" || textOf(result) != "Hello, Ada!" {
			t.Errorf("a quick call gave %v", result)
		}
		id := c.start(t, "slow_compute", object{"seconds": 0.7, "label": "a < b"})
		c.get(t, id)
		task := c.await(t, id, "completed", "failed", "cancelled")
		if textOf(task["result"]) != "Computed a < b." {
			t.Errorf("got %v", task)
		}
		task = c.await(t, c.start(t, "failing_job", nil), "completed", "failed", "cancelled")
		if result, _ := task["result"].(object); task["status"] != "completed" || result["isError"] != true {
			t.Errorf("a tool's failure gave %v", task)
		}
		if _, err := c.ask(t.Context(), "tasks/cancel", object{"taskId": id}); err != nil {
			t.Errorf("cancelling what has ended: %v", err)
		}
	})
	t.Run("its questions", func(t *testing.T) {
		id := c.start(t, "confirm_delete", object{"filename": "x.txt"})
		task := c.await(t, id, "input_required")
		keys := keysOf(task)
		if len(keys) != 1 {
			t.Fatalf("got %v", task)
		}
		c.update(t, id, object{"nobody-asked": object{"action": "accept"}})
		if still := keysOf(c.get(t, id)); !slices.Equal(still, keys) {
			t.Errorf("after an answer to nothing: %v", still)
		}
		c.update(t, id, object{keys[0]: object{"action": "accept", "content": object{"confirm": true}}})
		if task = c.await(t, id, "completed", "failed", "cancelled"); textOf(task["result"]) != "Asked about x.txt: accept." {
			t.Errorf("got %v", task)
		}
	})
	t.Run("its cancelling", func(t *testing.T) {
		id := c.start(t, "slow_compute", object{"seconds": 60})
		if result, err := c.ask(t.Context(), "tasks/cancel", object{"taskId": id}); err != nil || result["resultType"] != "complete" {
			t.Fatalf("tasks/cancel: %v, %v", result, err)
		}
		c.await(t, id, "cancelled")
	})
	t.Run("its news", func(t *testing.T) {
		id := c.start(t, "confirm_delete", object{"filename": "y.txt"})
		heard := c.listen(t, id, "no task of ours")
		first := <-heard
		if params, _ := first["params"].(object); fmt.Sprint(params["notifications"]) != fmt.Sprint(object{"taskIds": []any{id}}) {
			t.Fatalf("the acknowledgement says %v", first)
		}
		for m := range heard {
			task, _ := m["params"].(object)
			meta, _ := task["_meta"].(object)
			if m["method"] != "notifications/tasks" || task["taskId"] != id || meta["io.modelcontextprotocol/subscriptionId"] != 7.0 {
				t.Fatalf("heard %v", m)
			}
			for _, key := range keysOf(task) {
				c.update(t, id, object{key: object{"action": "decline"}})
			}
			if task["status"] == "completed" {
				if textOf(task["result"]) != "Asked about y.txt: decline." {
					t.Errorf("heard %v", task)
				}
				return
			}
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		id := c.start(t, "slow_compute", object{"seconds": 0.7})
		plain := &taskClient{urls: c.urls, plain: true}
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			c.refused(t, -32602, method, object{"taskId": "none", "inputResponses": object{}})
			c.refused(t, -32602, method, object{"taskId": id[:len(id)-2] + "xx", "inputResponses": object{}})
			plain.refused(t, -32021, method, object{"taskId": id, "inputResponses": object{}})
		}
		c.refused(t, -32602, "tasks/update", object{"taskId": id})
		plain.refused(t, -32021, "subscriptions/listen", object{"notifications": object{"taskIds": []string{id}}})
		for _, method := range []string{"tasks/list", "tasks/result"} {
			var refused *rpcError
			if _, err := c.ask(t.Context(), method, object{"taskId": id}); !errors.As(err, &refused) || refused.Code != -32601 {
				t.Errorf("%s: %v", method, err)
			}
		}
		if result := plain.call(t, "slow_compute", object{"seconds": 0.3, "label": "z"}); textOf(result) != "Computed z." {
			t.Errorf("who takes no tasks gets %v", result)
		}
	})
}

// When its owner dies, a call that repeats nothing is carried out again, and any other task says that its outcome is
// unknown. None stays as it is for ever.
func TestTasksOutliveTheirOwner(t *testing.T) {
	t.Parallel()
	config := "servers:\n"
	views := []string{"one", "two", "three", "four"} // so that both owners have some
	for i, view := range views {
		config += "  - {name: " + view + ", url: \"" + cluster.RunFixtures(t, fixtures, []string{"modern", "legacy"}[i%2], "-no-tasks").URL + "\"}\n"
	}
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config, Env: promoteSoon}, cluster.Layout{})
	awaitServers(t, place{rest: cluster.Address(many.Gateways[0].Ports.API)}, len(views))
	type started struct {
		client         *taskClient
		again, waiting string
	}
	var all []started
	for _, view := range views {
		c := &taskClient{urls: twoGateways(many, view)}
		s := started{c, c.start(t, "slow_compute", object{"seconds": 4, "label": view}), c.start(t, "confirm_delete", object{"filename": view})}
		c.await(t, s.waiting, "input_required")
		all = append(all, s)
	}
	listening := &taskClient{urls: twoGateways(many, "")}
	var followed []string
	for _, s := range all {
		followed = append(followed, s.again)
	}
	heard := listening.listen(t, followed...)
	many.Sessions[0].Kill()
	for _, s := range all {
		if task := s.client.await(t, s.again, "completed", "failed", "cancelled"); !strings.HasPrefix(textOf(task["result"]), "Computed") {
			t.Errorf("a call that repeats nothing ended as %v", task)
		}
		s.client.settle(t, s.waiting)
	}
	for completed := map[any]bool{}; len(completed) < len(followed); { // who listens hears of it at the next owner
		select {
		case m := <-heard:
			if task, _ := m["params"].(object); task["status"] == "completed" {
				completed[task["taskId"]] = true
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("only of %d of %d tasks it was heard that they were completed", len(completed), len(followed))
		}
	}
	if err := many.Sessions[0].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// An owner that comes back under its own name knows nothing of its tasks.
	c := all[0].client
	var waiting []string
	for range 4 {
		id := c.start(t, "confirm_delete", object{"filename": "z"})
		c.await(t, id, "input_required")
		waiting = append(waiting, id)
	}
	again := c.start(t, "slow_compute", object{"seconds": 20, "label": "patience"})
	for _, owner := range many.Sessions {
		owner.Kill()
	}
	// Without any owner there are no tasks, but answers of servers that need none.
	testkit.Eventually(t, func() error { // a gateway may not have noticed yet
		result, err := c.ask(t.Context(), "tools/call", object{"name": "greet", "arguments": object{"name": "Ada"}})
		if err == nil && textOf(result) != "Hello, Ada!" {
			err = fmt.Errorf("without owners a call gave %v", result)
		}
		return err
	}, 10*time.Second)
	for _, owner := range many.Sessions {
		if err := owner.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range waiting {
		unknownOutcome(t, c.await(t, id, "failed"))
	}
	if status := c.get(t, again)["status"]; status != "working" {
		t.Fatalf("a call that repeats nothing is %v", status)
	}
	if _, err := c.ask(t.Context(), "tasks/cancel", object{"taskId": again}); err != nil {
		t.Fatal(err)
	}
	handedOver(t, many, c)
}

// handedOver checks what becomes of tasks when their owner stops in good order.
func handedOver(t *testing.T, many *cluster.Cluster, c *taskClient) {
	var again, waiting []string
	for range 3 { // with both owners
		again = append(again, c.start(t, "slow_compute", object{"seconds": 2, "label": "it"}))
		waiting = append(waiting, c.start(t, "confirm_delete", object{"filename": "z"}))
	}
	if err := many.Sessions[0].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range again {
		c.await(t, id, "completed")
	}
	for _, id := range waiting {
		c.settle(t, id)
	}
}

func unknownOutcome(t *testing.T, task object) {
	t.Helper()
	failure, _ := task["error"].(object)
	data, _ := failure["data"].(object)
	if failure["code"] != -32603.0 || data["dev.erlmcp/outcome"] != "unknown" || task["statusMessage"] == nil || task["result"] != nil || task["inputRequests"] != nil {
		t.Errorf("got %v", task)
	}
}

// settle answers a task that waits for input, unless its owner is gone: then its outcome must be unknown.
func (c *taskClient) settle(t *testing.T, id string) (task object) {
	t.Helper()
	testkit.Eventually(t, func() error {
		var err error
		if task, err = c.ask(t.Context(), "tasks/get", object{"taskId": id}); err != nil {
			return err
		}
		switch task["status"] {
		case "failed":
			unknownOutcome(t, task)
			return nil
		case "completed":
			return nil
		case "input_required":
			answers := object{keysOf(task)[0]: object{"action": "accept", "content": object{"confirm": true}}}
			_, err = c.ask(t.Context(), "tasks/update", object{"taskId": id, "inputResponses": answers})
		}
		return fmt.Errorf("the task is %v; %w", task["status"], err)
	}, 40*time.Second)
	return task
}

// An owner that hangs is replaced, and what it does when it wakes up changes nothing.
func TestAFrozenOwnersTasksAreAdopted(t *testing.T) {
	t.Parallel()
	config := "servers:\n  - {name: plain, url: \"" + cluster.RunFixtures(t, fixtures, "modern", "-no-tasks").URL + "\"}\n"
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config, Env: promoteSoon}, cluster.Layout{})
	awaitServers(t, place{rest: cluster.Address(many.Gateways[0].Ports.API)}, 1)
	c := &taskClient{urls: twoGateways(many, "plain")}
	final := map[string]object{}
	for range 4 {
		id := c.start(t, "confirm_delete", object{"filename": "x"})
		c.await(t, id, "input_required")
		final[id] = nil
	}
	many.Sessions[0].Pause()
	for id := range final {
		final[id] = c.settle(t, id)
	}
	many.Sessions[0].Resume()
	testkit.Eventually(t, func() error { // it takes part again
		status, body, err := many.Sessions[0].Get(t.Context(), "/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/ready answers %d: %s", status, body)
		}
		return err
	}, 20*time.Second)
	for id, was := range final {
		if diff := cmp.Diff(was, c.get(t, id)); diff != "" {
			t.Errorf("after the owner woke up:\n%s", diff)
		}
	}
}

// A task is its principal's, whoever else knows its id; and a principal has only so many.
func TestATaskIsItsPrincipalsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{
		Binary: erlmcp, Dir: dir, Env: append(promoteSoon, "ERLMCP_ENV=production", "ERLMCP_TASKS_PER_PRINCIPAL=2"),
		Config: "servers:\n" +
			"  - {name: plain, url: \"" + cluster.RunFixtures(t, fixtures, "modern", "-no-tasks").URL + "\"}\n" +
			"  - {name: never, promote_after: 0s, url: \"" + cluster.RunFixtures(t, fixtures, "modern", "-no-tasks").URL + "\"}\n" +
			"  - {name: own, url: \"" + cluster.RunFixtures(t, fixtures, "modern").URL + "\"}\n",
	})
	admin := firstKey(t, dir, "up")
	as := func(principal, view string) *taskClient {
		c := &taskClient{urls: []string{up.URL(view)}, key: makeKey(t, up, admin, principal)}
		testkit.Eventually(t, func() error { // keys and tools come with the catalogue
			_, err := c.ask(t.Context(), "tools/call", object{"name": "greet", "arguments": object{"name": principal}})
			return err
		}, 20*time.Second)
		return c
	}
	for _, view := range []string{"plain", "own"} {
		alice, bob := as("alice", view), as("bob", view)
		id := alice.start(t, "confirm_delete", object{"filename": "secret"})
		alice.await(t, id, "input_required")
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			refused := bob.refused(t, -32602, method, object{"taskId": id, "inputResponses": object{}})
			never := bob.refused(t, -32602, method, object{"taskId": "never", "inputResponses": object{}})
			if refused.Message != never.Message {
				t.Errorf("%s tells that the task exists: %q, and else %q", method, refused.Message, never.Message)
			}
		}
		acknowledged, _ := (<-bob.listen(t, id))["params"].(object)
		if heard, _ := acknowledged["notifications"].(object); len(heard) > 0 {
			t.Errorf("bob may listen: %v", acknowledged)
		}
		// A view that does not show the server does not show its tasks.
		elsewhere := &taskClient{urls: []string{up.URL(map[string]string{"plain": "own", "own": "plain"}[view])}, key: alice.key}
		elsewhere.refused(t, -32602, "tasks/get", object{"taskId": id})
		alice.await(t, id, "input_required")
	}
	alice := as("alice", "plain")
	alice.start(t, "slow_compute", object{"seconds": 30})
	if result := alice.call(t, "slow_compute", object{"seconds": 0.5, "label": "it"}); textOf(result) != "Computed it." {
		t.Errorf("one task too many gave %v", result)
	}
	as("bob", "plain").start(t, "slow_compute", object{"seconds": 30})
	if result := as("bob", "never").call(t, "slow_compute", object{"seconds": 0.5, "label": "it"}); textOf(result) != "Computed it." {
		t.Errorf("where no tasks are made, a slow call gave %v", result)
	}
}
