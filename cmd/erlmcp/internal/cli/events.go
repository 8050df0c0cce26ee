package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

func eventsCommand(s *System) *cobra.Command {
	var kinds []string
	var principal, tenant string
	c := &cobra.Command{
		Use: "events", Short: "Show calls, administrators' acts and sessions' lives as they are counted, until interrupted", Args: takes(0, 0, ""),
		Long: "Show what the metrics service takes, a line for each, until it is interrupted or --timeout is over: calls, summed over\n" +
			"about 5 s, what administrators do (for the role admin), and what becomes of sessions. A line says so when events\n" +
			"came faster than they could be shown.",
		Example: "  erlmcp events\n  erlmcp events --kind usage --tenant acme\n  erlmcp events --output json | jq .session",
	}
	a := adminFlags(s, c)
	f := c.Flags()
	_ = f.Lookup("timeout").Value.Set("0s") // it is a duration
	f.Lookup("timeout").DefValue = "0s"
	f.Lookup("timeout").Usage = "how long to watch; until interrupted when 0"
	f.StringSliceVar(&kinds, "kind", nil, "only these: usage, audit, session")
	f.StringVar(&principal, "principal", "", "only of this principal")
	f.StringVar(&tenant, "tenant", "", "only usage of this tenant's principals")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		req := &metricsv1.WatchEventsRequest{Principal: principal, Tenant: tenant}
		for _, k := range kinds {
			n, ok := metricsv1.EventKind_value["EVENT_KIND_"+strings.ToUpper(k)]
			if !ok || n == 0 {
				return usagef("--kind %q is none of usage, audit, session", k)
			}
			req.Kinds = append(req.Kinds, metricsv1.EventKind(n))
		}
		ctx := cmd.Context()
		return a.do(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
			events, err := metricsv1.NewMetricsServiceClient(conn).WatchEvents(ctx, req)
			for err == nil {
				var e *metricsv1.WatchEventsResponse
				if e, err = events.Recv(); err == nil {
					err = a.showEvent(e)
				}
			}
			if code := status.Code(err); errors.Is(err, io.EOF) || code == codes.Canceled || code == codes.DeadlineExceeded {
				return nil // interrupted, or as long as was asked for
			}
			return err
		})
	}
	return c
}

// showEvent writes an event as a line.
func (a *admin) showEvent(e *metricsv1.WatchEventsResponse) error {
	if e.GetEvent() == nil {
		return nil
	}
	if a.output == "json" {
		return printJSON(a.system.Out, e)
	}
	line := ""
	switch what := e.GetEvent().(type) {
	case *metricsv1.WatchEventsResponse_Usage:
		u := what.Usage
		mean := time.Duration(u.GetMicros()/max(u.GetCalls(), 1)) * time.Microsecond
		line = fmt.Sprintf("%s  usage    %s  %s %s %s  calls %d, errors %d, mean %s", at(u.GetMinute()), u.GetPrincipal(), u.GetServer(), u.GetMethod(), u.GetName(), u.GetCalls(), u.GetErrors(), mean)
	case *metricsv1.WatchEventsResponse_Audit:
		line = fmt.Sprintf("%s  audit    %s  %s %s  %s", at(what.Audit.GetAt()), what.Audit.GetPrincipal(), what.Audit.GetMethod(), what.Audit.GetObject(), what.Audit.GetOutcome())
	case *metricsv1.WatchEventsResponse_Session:
		line = fmt.Sprintf("%s  session  %s  %s %s  %s", at(what.Session.GetAt()), what.Session.GetPrincipal(), what.Session.GetSessionId(), word(what.Session.GetKind().String(), "KIND_"), what.Session.GetReason())
	case *metricsv1.WatchEventsResponse_Missed:
		line = fmt.Sprintf("%d events or more were left out here", what.Missed)
	}
	_, err := fmt.Fprintln(a.system.Out, oneLine(line))
	return err
}
