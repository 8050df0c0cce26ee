package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
)

// completionTime is how long a person who pressed Tab waits for names.
const completionTime = 2 * time.Second

// completes has a command's first argument completed with names that erlmcp knows.
func (a *admin) completes(c *cobra.Command, names func(context.Context, grpc.ClientConnInterface) ([]string, error)) {
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var fitting []cobra.Completion
		a.timeout = completionTime
		_ = a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error { // no answer, no names
			all, err := names(ctx, conn)
			for _, name := range all {
				if strings.HasPrefix(name, begun) {
					fitting = append(fitting, name)
				}
			}
			return err
		})
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

func serverNames(ctx context.Context, conn grpc.ClientConnInterface) (names []string, err error) {
	resp, err := registryv1.NewRegistryServiceClient(conn).ListServers(ctx, &registryv1.ListServersRequest{})
	for _, s := range resp.GetServers() {
		names = append(names, s.GetServer().GetName())
	}
	return names, err
}

func toolNames(ctx context.Context, conn grpc.ClientConnInterface) (names []string, err error) {
	resp, err := gatewayv1.NewGatewayServiceClient(conn).ListTools(ctx, &gatewayv1.ListToolsRequest{})
	for _, tool := range resp.GetTools() {
		names = append(names, tool.GetFields()["name"].GetStringValue())
	}
	return names, err
}

func sessionIDs(ctx context.Context, conn grpc.ClientConnInterface) (ids []string, err error) {
	resp, err := sessionv1.NewSessionServiceClient(conn).ListSessions(ctx, &sessionv1.ListSessionsRequest{PageSize: 100})
	for _, s := range resp.GetSessions() {
		ids = append(ids, s.GetSessionId())
	}
	return ids, err
}

func keyIDs(ctx context.Context, conn grpc.ClientConnInterface) (ids []string, err error) {
	resp, err := registryv1.NewAccessServiceClient(conn).ListKeys(ctx, &registryv1.ListKeysRequest{})
	for _, k := range resp.GetKeys() {
		ids = append(ids, k.GetId())
	}
	return ids, err
}
