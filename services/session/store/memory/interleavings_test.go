package memory_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/memory"
)

// model is what the store promises of one session and two nodes, in the words of package store: who owns it at which
// epoch, whether it was released, and whose leases live.
type model struct {
	owner    string
	epoch    uint64
	released bool
	leases   map[string]bool
}

// actor is a node: what it saw when it looked, and the epoch at which it believes to own the session.
type actor struct {
	name  string
	lease store.Lease
	saw   uint64 // 0: it did not look, or saw that another one holds the session
	holds uint64 // 0: it does not think that it owns the session
}

// interleaving is one order of steps, over a store of its own.
type interleaving struct {
	t     *testing.T
	store *memory.Store
	model model
	nodes []*actor
	steps []string
}

const sessionID = "one"

func begin(t *testing.T) *interleaving {
	i := &interleaving{t: t, store: memory.New(store.Limits{}), model: model{owner: "a", epoch: 1, leases: map[string]bool{}}}
	for _, name := range []string{"a", "b"} {
		i.nodes = append(i.nodes, &actor{name: name})
		i.join(i.nodes[len(i.nodes)-1])
	}
	if err := i.store.Create(t.Context(), "a", store.Record{ID: sessionID, Principal: "p"}); err != nil {
		t.Fatal(err)
	}
	i.nodes[0].holds = 1
	return i
}

func (i *interleaving) failf(format string, args ...any) {
	i.t.Helper()
	i.t.Fatalf("after %s: %s", strings.Join(i.steps, ", "), fmt.Sprintf(format, args...))
}

// join: the node says that it lives.
func (i *interleaving) join(n *actor) {
	lease, err := i.store.Join(i.t.Context(), store.Node{Name: n.name, Address: n.name}, time.Hour)
	if err != nil {
		i.failf("join: %v", err)
	}
	n.lease, i.model.leases[n.name] = lease, true
}

// expire: the node's lease ends, by itself or by whoever found the node dead, and the node, frozen perhaps, does not know.
func (i *interleaving) expire(n *actor) {
	if err := i.store.Leave(i.t.Context(), n.lease); err != nil {
		i.failf("leave: %v", err)
	}
	i.model.leases[n.name] = false
}

// look is the first half of an adoption: is the session free?
func (i *interleaving) look(n *actor) {
	seen, err := i.store.Get(i.t.Context(), sessionID)
	if err != nil {
		i.failf("get: %v", err)
	}
	holds := i.model.leases[i.model.owner] && !i.model.released
	if seen.Owner.Epoch != i.model.epoch || seen.Owner.Node != i.model.owner || seen.Owner.Holds() != holds {
		i.failf("the store shows %+v, want %+v", seen.Owner, i.model)
	}
	if n.saw = 0; !holds || i.model.owner == n.name {
		n.saw = seen.Owner.Epoch
	}
}

// claim is the second half, any time later.
func (i *interleaving) claim(n *actor) {
	if n.saw == 0 {
		return
	}
	may := n.saw == i.model.epoch && (n.name == i.model.owner || i.model.released || !i.model.leases[i.model.owner])
	epoch, err := i.store.Claim(i.t.Context(), sessionID, n.name, n.saw)
	switch {
	case may && (err != nil || epoch != i.model.epoch+1):
		i.failf("%s could not claim: epoch %d, %v", n.name, epoch, err)
	case !may && !errors.Is(err, store.ErrOwned):
		i.failf("%s claimed what is %s's: epoch %d, %v", n.name, i.model.owner, epoch, err)
	case may:
		n.holds = epoch
		i.model.owner, i.model.epoch, i.model.released = n.name, epoch, false
	}
}

// owns reports whether a node is what it believes to be.
func (i *interleaving) owns(n *actor) bool {
	return n.holds == i.model.epoch && n.name == i.model.owner && !i.model.released
}

// write: of all who believe to own the session only the one who does gets it done, each kind of write alike.
func (i *interleaving) write(n *actor) {
	if n.holds == 0 {
		return
	}
	saved := i.store.Save(i.t.Context(), sessionID, n.name, n.holds, store.Changes{Set: map[string][]byte{"by": []byte(n.name)}})
	_, appended := i.store.Append(i.t.Context(), sessionID, n.name, n.holds, "0", []byte("m"))
	lost, err := i.store.Touch(i.t.Context(), n.name, []store.Hold{{ID: sessionID, Epoch: n.holds}})
	for what, failed := range map[string]error{"save": saved, "append": appended} {
		if want := i.owns(n); want && failed != nil || !want && !errors.Is(failed, store.ErrFenced) {
			i.failf("%s by %s at epoch %d: %v, want it done: %v", what, n.name, n.holds, failed, want)
		}
	}
	if err != nil || (len(lost) == 0) != i.owns(n) {
		i.failf("touch by %s: lost %v, %v", n.name, lost, err)
	}
}

// release is the hand-over.
func (i *interleaving) release(n *actor) {
	if n.holds == 0 {
		return
	}
	err := i.store.Release(i.t.Context(), sessionID, n.name, n.holds)
	ours := n.holds == i.model.epoch && n.name == i.model.owner
	if ours && err != nil || !ours && !errors.Is(err, store.ErrFenced) {
		i.failf("release by %s at epoch %d: %v", n.name, n.holds, err)
	}
	if ours {
		i.model.released = true
	}
	// It goes on believing: a node whose release was slow may still have writes on their way.
}

// Every order of five steps of two nodes, which look, claim, write, hand over, and lose and renew their leases, keeps
// what package store promises: one owner at a time, epochs that only grow, and nothing written by anyone else.
func TestEveryInterleavingKeepsOneOwner(t *testing.T) {
	const depth = 5
	kinds := []struct {
		name string
		do   func(*interleaving, *actor)
	}{
		{"joins", (*interleaving).join}, {"expires", (*interleaving).expire}, {"looks", (*interleaving).look},
		{"claims", (*interleaving).claim}, {"writes", (*interleaving).write}, {"releases", (*interleaving).release},
	}
	steps := 2 * len(kinds)
	total := 1
	for range depth {
		total *= steps
	}
	claims := 0
	for n := range total {
		i := begin(t)
		for rest, k := n, 0; k < depth; rest, k = rest/steps, k+1 {
			kind, node := kinds[rest%steps/2], i.nodes[rest%2]
			i.steps = append(i.steps, node.name+" "+kind.name)
			kind.do(i, node)
		}
		for _, node := range i.nodes { // whoever believes to own it tries at last
			i.write(node)
		}
		claims += int(i.model.epoch - 1)
	}
	if claims == 0 {
		t.Error("no order led to an adoption")
	}
	t.Logf("%d orders, %d adoptions", total, claims)
}
