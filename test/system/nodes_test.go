package system

import (
	"fmt"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// counted waits until a node knows how many live, and how many there should be.
func counted(t *testing.T, n *cluster.Node, when string, living, expected float64) {
	t.Helper()
	testkit.Eventually(t, func() error {
		nodes, err := metric(t.Context(), n, "erlmcp_cluster_nodes")
		if err != nil {
			return err
		}
		should, err := metric(t.Context(), n, "erlmcp_cluster_nodes_expected")
		if err == nil && (nodes != living || should != expected) {
			err = fmt.Errorf("%s: %s knows of %v nodes, of %v that there should be", when, n.Name(), nodes, should)
		}
		return err
	}, 30*time.Second)
}

// A process that dies is missing in every other one's figures, with nothing set; one that is stopped in good order is
// not waited for.
func TestAProcessThatDiesIsMissed(t *testing.T) {
	t.Parallel()
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp}, cluster.Layout{Gateways: 1})
	others := []*cluster.Node{c.Gateways[0], c.Registry}
	expect := func(when string, living, expected float64) {
		t.Helper()
		for _, n := range others {
			counted(t, n, when, living, expected)
		}
	}
	expect("at first", 5, 5)
	c.Sessions[0].Kill()
	expect("an owner was killed", 4, 5)
	if err := c.Sessions[1].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("another was stopped in good order", 3, 4)
	if err := c.Sessions[0].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("the one that was killed is back", 4, 4)
}
