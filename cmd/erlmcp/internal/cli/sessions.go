package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
)

func sessionsCommand(s *System) *cobra.Command {
	return group("sessions", "List, show, drain and close sessions, and look back at them", "  erlmcp sessions list",
		sessionsListCommand(s), sessionsShowCommand(s), sessionsDrainCommand(s), sessionsCloseCommand(s), sessionsHistoryCommand(s))
}

func sessionsListCommand(s *System) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the sessions of the whole cluster", Args: takes(0, 0, ""),
		Example: "  erlmcp sessions list\n  erlmcp sessions list --limit 10 -o json",
	}
	a := adminFlags(s, c)
	c.Flags().IntVar(&limit, "limit", 1000, "most sessions to list")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 1 {
			return usagef("--limit %d is not positive", limit)
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			all, err := listSessions(ctx, sessionv1.NewSessionServiceClient(conn), limit)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, x := range all.GetSessions() {
				rows = append(rows, []string{x.GetSessionId(), x.GetPrincipal(), x.GetProtocolVersion(), x.GetView(), x.GetOwner(), at(x.GetUsedAt()), x.GetClient()})
			}
			return a.show(all, []string{"ID", "PRINCIPAL", "VERSION", "VIEW", "OWNER", "USED", "CLIENT"}, rows)
		})
	}
	return c
}

// listSessions reads pages until there are enough.
func listSessions(ctx context.Context, client sessionv1.SessionServiceClient, limit int) (*sessionv1.ListSessionsResponse, error) {
	const page = 500
	all := &sessionv1.ListSessionsResponse{}
	for {
		size := min(page, limit-len(all.GetSessions()))
		resp, err := client.ListSessions(ctx, &sessionv1.ListSessionsRequest{PageSize: uint32(size), PageToken: all.GetNextPageToken()})
		if err != nil {
			return nil, err
		}
		all.Sessions = append(all.Sessions, resp.GetSessions()...)
		all.NextPageToken = resp.GetNextPageToken()
		if all.GetNextPageToken() == "" || len(all.GetSessions()) >= limit {
			return all, nil
		}
	}
}

func sessionsShowCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "show ID", Short: "Show one session", Args: takes(1, 1, "the ID of a session"),
		Example: "  erlmcp sessions show 0198f2d4-6c1e-7e0a-9d57-2f6f3f3d4a10",
	}
	a := adminFlags(s, c)
	a.completes(c, sessionIDs)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := sessionv1.NewSessionServiceClient(conn).GetSession(ctx, &sessionv1.GetSessionRequest{SessionId: args[0]})
			if err != nil {
				return err
			}
			x := resp.GetSession()
			return a.show(resp, []string{"ID", x.GetSessionId()}, [][]string{
				{"principal", x.GetPrincipal()},
				{"client", x.GetClient()},
				{"version", x.GetProtocolVersion()},
				{"view", x.GetView()},
				{"owner", x.GetOwner()},
				{"created", at(x.GetCreatedAt())},
				{"used", at(x.GetUsedAt())},
				{"address", x.GetAddress()},
				{"upstreams", strings.Join(x.GetUpstreams(), " ")},
				{"restarts", restarts(x)},
			})
		})
	}
	return c
}

// restarts are the servers that forgot a session, as a program does that was started again, and how often.
func restarts(x *sessionv1.Session) string {
	var all []string
	for _, server := range slices.Sorted(maps.Keys(x.GetRestarts())) {
		all = append(all, fmt.Sprintf("%s (%d)", server, x.GetRestarts()[server]))
	}
	return strings.Join(all, " ")
}

func sessionsDrainCommand(s *System) *cobra.Command {
	var owner string
	c := &cobra.Command{
		Use: "drain (ID | --owner NODE)", Short: "Hand a session, or all of an owner, over to other owners",
		Long: "Hand a session over to another owner once its calls have ended, or a part of the time to drain is over; or all\n" +
			"sessions that an owner has now. Clients notice a pause. An owner that is told to stop does this by itself.",
		Example: "  erlmcp sessions drain 0198f2d4-6c1e-7e0a-9d57-2f6f3f3d4a10\n  erlmcp sessions drain --owner session1@10.0.0.7",
		Args:    takes(0, 1, "the ID of a session"),
	}
	a := adminFlags(s, c)
	c.Flags().StringVar(&owner, "owner", "", "`node` whose sessions are handed over, as `sessions list` names it")
	a.completes(c, sessionIDs)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if (owner == "") == (len(args) == 0) {
			return usagef("give either the ID of a session or --owner")
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			client := sessionv1.NewSessionServiceClient(conn)
			if owner == "" {
				resp, err := client.DrainSession(ctx, &sessionv1.DrainSessionRequest{SessionId: args[0]})
				if err != nil {
					return err
				}
				return a.done(resp, "session %s handed over", args[0])
			}
			drained, err := drainOwner(ctx, client, owner)
			if err != nil {
				return err
			}
			return a.done(&sessionv1.DrainSessionResponse{}, "%d sessions of %s handed over", drained, owner)
		})
	}
	return c
}

// maxDraining is how many sessions are handed over at once.
const maxDraining = 32

// drainOwner hands over the sessions that an owner has, and says how many they were.
func drainOwner(ctx context.Context, client sessionv1.SessionServiceClient, owner string) (drained int, err error) {
	all, err := listSessions(ctx, client, math.MaxInt)
	if err != nil {
		return 0, err
	}
	draining, ctx := errgroup.WithContext(ctx)
	draining.SetLimit(maxDraining)
	for _, x := range all.GetSessions() {
		if x.GetOwner() != owner {
			continue
		}
		drained++
		draining.Go(func() error {
			_, err := client.DrainSession(ctx, &sessionv1.DrainSessionRequest{SessionId: x.GetSessionId()})
			if status.Code(err) == codes.NotFound { // it ended meanwhile
				return nil
			}
			return err
		})
	}
	return drained, draining.Wait()
}

func sessionsCloseCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "close ID", Short: "End a session and everything that it holds", Args: takes(1, 1, "the ID of a session"),
		Example: "  erlmcp sessions close 0198f2d4-6c1e-7e0a-9d57-2f6f3f3d4a10",
	}
	a := adminFlags(s, c)
	a.completes(c, sessionIDs)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := sessionv1.NewSessionServiceClient(conn).CloseSession(ctx, &sessionv1.CloseSessionRequest{SessionId: args[0]})
			if err != nil {
				return err
			}
			return a.done(resp, "session %s closed", args[0])
		})
	}
	return c
}

func sessionsHistoryCommand(s *System) *cobra.Command {
	var principal, session string
	var since time.Duration
	var limit uint32
	c := &cobra.Command{
		Use: "history", Short: "List what became of sessions, newest first", Args: takes(0, 0, ""),
		Example: "  erlmcp sessions history\n  erlmcp sessions history --principal ann --since 168h",
	}
	a := adminFlags(s, c)
	f := c.Flags()
	f.StringVar(&principal, "principal", "", "only sessions of this principal")
	f.StringVar(&session, "session", "", "only the session with this `id`")
	f.DurationVar(&since, "since", 24*time.Hour, "how far to look back")
	f.Uint32Var(&limit, "limit", 100, "most events to list, up to 1000")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := metricsv1.NewMetricsServiceClient(conn).ListSessionEvents(ctx, &metricsv1.ListSessionEventsRequest{
				Since: timestamppb.New(time.Now().Add(-since)), Principal: principal, SessionId: session, Limit: limit,
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, e := range resp.GetEvents() {
				rows = append(rows, []string{at(e.GetAt()), word(e.GetKind().String(), "KIND_"), e.GetSessionId(), e.GetPrincipal(), e.GetNode(), e.GetReason()})
			}
			return a.show(resp, []string{"AT", "WHAT", "ID", "PRINCIPAL", "OWNER", "WHY"}, rows)
		})
	}
	return c
}
