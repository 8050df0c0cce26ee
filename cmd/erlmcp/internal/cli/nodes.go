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
		Use: "nodes", Short: "List the processes that live", Args: takes(0, 0, ""),
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
			for _, n := range resp.GetNodes() {
				rows = append(rows, []string{n.GetName(), strings.Join(n.GetRoles(), ","), n.GetVersion(), n.GetAddress(), at(n.GetStartedAt()), at(n.GetSeenAt())})
			}
			return a.show(resp, []string{"NAME", "ROLES", "VERSION", "ADDRESS", "STARTED", "SEEN"}, rows)
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
