package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

func nodesCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "nodes", Short: "List the processes that live, and those that are missing", Args: takes(0, 0, ""),
		Example: "  erlmcp nodes",
	}
	a := adminFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := metricsv1.NewMetricsServiceClient(conn).ListNodes(ctx, &metricsv1.ListNodesRequest{})
			if err != nil {
				return err
			}
			var rows [][]string
			add := func(state string, nodes []*metricsv1.Node) {
				for _, n := range nodes {
					rows = append(rows, []string{n.GetName(), state, strings.Join(n.GetRoles(), ","), n.GetVersion(), n.GetAddress(), at(n.GetStartedAt()), at(n.GetSeenAt())})
				}
			}
			add("lives", resp.GetNodes())
			add("missing", resp.GetMissing())
			return a.show(resp, []string{"NAME", "STATE", "ROLES", "VERSION", "ADDRESS", "STARTED", "SEEN"}, rows)
		})
	}
	return c
}

// sorted sorts each list and joins them.
func sorted(lists ...[]string) []string {
	for _, l := range lists {
		slices.Sort(l)
	}
	return slices.Concat(lists...)
}
