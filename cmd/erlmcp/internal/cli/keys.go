package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

func keysCommand(s *System) *cobra.Command {
	return group("keys", "Create, list and revoke API keys", "  erlmcp keys create alice",
		keysCreateCommand(s), keysListCommand(s), keysRevokeCommand(s))
}

func keysCreateCommand(s *System) *cobra.Command {
	var role, description, tenant string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "create PRINCIPAL", Short: "Create an API key; it is shown this once", Args: takes(1, 1, "a PRINCIPAL"),
		Long: "Create an API key for a principal: whom its requests act for. The key is printed alone on standard output,\n" +
			"and not shown again.",
		Example: "  erlmcp keys create alice\n  erlmcp keys create ci --role viewer --ttl 720h --description 'nightly report'\n  erlmcp keys create bob --tenant acme",
	}
	a := adminFlags(s, c)
	c.Flags().StringVar(&role, "role", "user", "user (uses MCP), viewer (reads administrative state too) or admin (everything)")
	c.Flags().StringVar(&description, "description", "", "told to those who list keys")
	c.Flags().StringVar(&tenant, "tenant", "", "whom the principal belongs to, such as a team or customer; usage can be summed by it")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long it is valid; for ever when left out")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		req := &registryv1.CreateKeyRequest{Principal: args[0], Description: description, Tenant: tenant}
		switch role {
		case "user":
			req.Role = registryv1.Role_ROLE_USER
		case "viewer":
			req.Role = registryv1.Role_ROLE_VIEWER
		case "admin":
			req.Role = registryv1.Role_ROLE_ADMIN
		default:
			return usagef("--role %q is none of user, viewer and admin", role)
		}
		if ttl < 0 {
			return usagef("--ttl %s is not positive", ttl)
		}
		if ttl > 0 {
			req.Ttl = durationpb.New(ttl)
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewAccessServiceClient(conn).CreateKey(ctx, req)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return printJSON(s.Out, resp)
			}
			_, _ = fmt.Fprintf(s.Err, "key %s for %s (%s); keep it, it is not shown again\n", resp.GetKey().GetId(), args[0], role) // best effort
			_, err = fmt.Fprintln(s.Out, resp.GetSecret())
			return err
		})
	}
	return c
}

func keysListCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List API keys, without their secrets", Args: takes(0, 0, ""),
		Example: "  erlmcp keys list",
	}
	a := adminFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewAccessServiceClient(conn).ListKeys(ctx, &registryv1.ListKeysRequest{})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range resp.GetKeys() {
				rows = append(rows, []string{k.GetId(), k.GetPrincipal(), k.GetTenant(), word(k.GetRole().String(), "ROLE_"), at(k.GetCreatedAt()), at(k.GetExpiresAt()), k.GetDescription()})
			}
			return a.show(resp, []string{"ID", "PRINCIPAL", "TENANT", "ROLE", "CREATED", "EXPIRES", "DESCRIPTION"}, rows)
		})
	}
	return c
}

func keysRevokeCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "revoke ID", Short: "Revoke an API key at once, everywhere", Args: takes(1, 1, "the ID of a key"),
		Example: "  erlmcp keys revoke 01hv3c",
	}
	a := adminFlags(s, c)
	a.completes(c, keyIDs)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewAccessServiceClient(conn).RevokeKey(ctx, &registryv1.RevokeKeyRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.done(resp, "key %s revoked", args[0])
		})
	}
	return c
}
