package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

func usageCommand(s *System) *cobra.Command {
	var by []string
	var principal, tenant, server, name, order, step string
	var since time.Duration
	var limit uint32
	c := &cobra.Command{
		Use: "usage", Short: "Show how much was called, and how long it took", Args: takes(0, 0, ""),
		Example: "  erlmcp usage\n  erlmcp usage --by principal,name --order errors --since 168h\n  erlmcp usage --by tenant --since 720h\n  erlmcp usage --by minute --step hour --server weather",
	}
	a := adminFlags(s, c)
	f := c.Flags()
	f.StringSliceVar(&by, "by", []string{"server", "name"}, "what to keep apart: minute (each step), tenant, principal, server, method, name")
	f.StringVar(&principal, "principal", "", "only calls of this principal")
	f.StringVar(&tenant, "tenant", "", "only calls of this tenant's principals")
	f.StringVar(&server, "server", "", "only calls of this server")
	f.StringVar(&name, "name", "", "only calls of this tool or prompt")
	f.StringVar(&order, "order", "calls", "what comes first: most calls, errors or latency (mean)")
	f.StringVar(&step, "step", "", "minute, hour or day; the finest that is still kept when left out")
	f.DurationVar(&since, "since", time.Hour, "how far to look back")
	f.Uint32Var(&limit, "limit", 20, "most rows, up to 10000")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		req := &metricsv1.QueryUsageRequest{
			Since: timestamppb.New(time.Now().Add(-since)), Principal: principal, Tenant: tenant, Server: server, Name: name, Limit: limit,
		}
		for _, d := range by {
			n, ok := metricsv1.Dimension_value["DIMENSION_"+strings.ToUpper(d)]
			if !ok {
				return usagef("--by %q is none of minute, tenant, principal, server, method, name", d)
			}
			req.By = append(req.By, metricsv1.Dimension(n))
		}
		n, ok := metricsv1.Order_value["ORDER_"+strings.ToUpper(order)]
		if !ok {
			return usagef("--order %q is none of calls, errors, latency", order)
		}
		req.Order = metricsv1.Order(n)
		if step != "" {
			if n, ok = metricsv1.Step_value["STEP_"+strings.ToUpper(step)]; !ok {
				return usagef("--step %q is none of minute, hour, day", step)
			}
			req.Step = metricsv1.Step(n)
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := metricsv1.NewMetricsServiceClient(conn).QueryUsage(ctx, req)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, u := range resp.GetUsage() {
				rows = append(rows, []string{
					at(u.GetMinute()), u.GetTenant(), u.GetPrincipal(), u.GetServer(), u.GetMethod(), u.GetName(),
					strconv.FormatUint(u.GetCalls(), 10), strconv.FormatUint(u.GetErrors(), 10),
					micros(u.GetP50Micros()), micros(u.GetP90Micros()), micros(u.GetP99Micros()),
				})
			}
			return a.show(resp, []string{"START", "TENANT", "PRINCIPAL", "SERVER", "METHOD", "NAME", "CALLS", "ERRORS", "P50", "P90", "P99"}, rows)
		})
	}
	return c
}

// micros tells a duration in microseconds; nothing where it is not known.
func micros(n uint64) string {
	if n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Microsecond).String()
}
