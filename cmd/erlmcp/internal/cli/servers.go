package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

func serversCommand(s *System) *cobra.Command {
	return group("servers", "List, add, remove and refresh servers", "  erlmcp servers list",
		serversListCommand(s), serversAddCommand(s), serversRemoveCommand(s), serversRefreshCommand(s))
}

var serverHead = []string{"NAME", "KIND", "STATE", "TOOLS", "PROMPTS", "RESOURCES", "WHERE", "MESSAGE"}

func serverRow(st *registryv1.ServerStatus) []string {
	kind, where := "", ""
	switch e := st.GetServer().GetEndpoint().(type) {
	case *registryv1.Server_Http:
		kind, where = "http", e.Http.GetUrl()
	case *registryv1.Server_Stdio:
		kind, where = "stdio", strings.Join(e.Stdio.GetCommand(), " ")
	case *registryv1.Server_Grpc:
		kind, where = "grpc", e.Grpc.GetTarget()
	}
	return []string{
		st.GetServer().GetName(), kind, word(st.GetState().String(), "SERVER_STATE_"),
		strconv.Itoa(len(st.GetTools())), strconv.Itoa(len(st.GetPrompts())),
		strconv.Itoa(len(st.GetResources()) + len(st.GetResourceTemplates())), where, st.GetMessage(),
	}
}

func serversListCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List all servers with their state", Args: takes(0, 0, ""),
		Example: "  erlmcp servers list\n  erlmcp servers list -o json",
	}
	a := adminFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewRegistryServiceClient(conn).ListServers(ctx, &registryv1.ListServersRequest{})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, st := range resp.GetServers() {
				rows = append(rows, serverRow(st))
			}
			return a.show(resp, serverHead, rows)
		})
	}
	return c
}

// declaration is a server as the flags of `servers add` declare it.
type declaration struct {
	url      string
	headers  []string
	env      []string
	dir      string
	grpc     string
	grpcTLS  bool
	services []string
	metadata []string
	prefix   string
	calls    string
	timeout  time.Duration
}

func serversAddCommand(s *System) *cobra.Command {
	var d declaration
	c := &cobra.Command{
		Use:   "add NAME (--url URL | --grpc TARGET | -- COMMAND...)",
		Short: "Add a server",
		Long: "Add an MCP server over HTTP, a program, or a gRPC service. It is asked at once what it offers, and its tools\n" +
			"appear at every gateway.",
		Example: "  erlmcp servers add weather --url https://weather.example.com/mcp --header 'Authorization: Bearer ...'\n" +
			"  erlmcp servers add files -- npx -y @modelcontextprotocol/server-filesystem /data\n" +
			"  erlmcp servers add orders --grpc orders:50051",
		Args: takes(1, 1<<10, "a NAME"),
	}
	a := adminFlags(s, c)
	f := c.Flags()
	f.StringVar(&d.url, "url", "", "address of an MCP server over HTTP")
	f.StringArrayVar(&d.headers, "header", nil, "with --url: `NAME:VALUE` to send with each request; repeatable")
	f.StringArrayVar(&d.env, "env", nil, "with a command: `NAME=VALUE` for its environment; repeatable")
	f.StringVar(&d.dir, "dir", "", "with a command: its working directory")
	f.StringVar(&d.grpc, "grpc", "", "`host:port` of a gRPC service with reflection")
	f.BoolVar(&d.grpcTLS, "grpc-tls", false, "with --grpc: use TLS towards the service")
	f.StringSliceVar(&d.services, "service", nil, "with --grpc: full `name` of a service to offer, all when left out; repeatable")
	f.StringArrayVar(&d.metadata, "metadata", nil, "with --grpc: `NAME=VALUE` to send with each call; repeatable")
	f.StringVar(&d.prefix, "prefix", "", "put before the names of its tools (default NAME_); empty for none")
	f.StringVar(&d.calls, "calls", "", "how calls of legacy clients travel: session or direct")
	f.DurationVar(&d.timeout, "call-timeout", 0, "longest time of one call (default 5m)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := d.server(args, cmd.Flags().Changed("prefix"))
		if err != nil {
			return err
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewRegistryServiceClient(conn).RegisterServer(ctx, &registryv1.RegisterServerRequest{Server: server})
			if err != nil {
				return err
			}
			return a.show(resp, serverHead, [][]string{serverRow(resp.GetStatus())})
		})
	}
	return c
}

// server builds the declaration; args are the name and a command.
func (d *declaration) server(args []string, hasPrefix bool) (*registryv1.Server, error) {
	server := &registryv1.Server{Name: args[0]}
	command := args[1:]
	kinds := 0
	for _, given := range []bool{d.url != "", d.grpc != "", len(command) > 0} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, usagef("give one of --url, --grpc, and a command behind --")
	}
	for _, misplaced := range []struct {
		given bool
		flag  string
		fits  bool
	}{
		{len(d.headers) > 0, "--header", d.url != ""},
		{len(d.env) > 0, "--env", len(command) > 0},
		{d.dir != "", "--dir", len(command) > 0},
		{d.grpcTLS, "--grpc-tls", d.grpc != ""},
		{len(d.services) > 0, "--service", d.grpc != ""},
		{len(d.metadata) > 0, "--metadata", d.grpc != ""},
	} {
		if misplaced.given && !misplaced.fits {
			return nil, usagef("%s does not fit this kind of server; leave it out", misplaced.flag)
		}
	}
	var err error
	switch {
	case d.url != "":
		http := &registryv1.HttpEndpoint{Url: d.url}
		http.Headers, err = pairs("--header", ":", d.headers)
		server.Endpoint = &registryv1.Server_Http{Http: http}
	case d.grpc != "":
		service := &registryv1.GrpcEndpoint{Target: d.grpc, Tls: d.grpcTLS, Services: d.services}
		service.Metadata, err = pairs("--metadata", "=", d.metadata)
		server.Endpoint = &registryv1.Server_Grpc{Grpc: service}
	default:
		program := &registryv1.StdioEndpoint{Command: command, Dir: d.dir}
		program.Env, err = pairs("--env", "=", d.env)
		server.Endpoint = &registryv1.Server_Stdio{Stdio: program}
	}
	if err != nil {
		return nil, err
	}
	if hasPrefix {
		server.Prefix = proto.String(d.prefix)
	}
	if d.timeout != 0 {
		server.CallTimeout = durationpb.New(d.timeout)
	}
	switch d.calls {
	case "":
	case "session":
		server.Calls = registryv1.CallPath_CALL_PATH_SESSION
	case "direct":
		server.Calls = registryv1.CallPath_CALL_PATH_DIRECT
	default:
		return nil, usagef("--calls %q is neither session nor direct", d.calls)
	}
	return server, nil
}

// pairs cuts NAME=VALUE texts. The value is not shown in errors: it may be secret.
func pairs(flag, separator string, texts []string) (map[string]string, error) {
	var m map[string]string
	for i, text := range texts {
		name, value, ok := strings.Cut(text, separator)
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, usagef("%s number %d is not NAME%sVALUE", flag, i+1, separator)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[name] = strings.TrimSpace(value)
	}
	return m, nil
}

func serversRemoveCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a server", Args: takes(1, 1, "a NAME"),
		Example: "  erlmcp servers remove weather",
	}
	a := adminFlags(s, c)
	a.completes(c, serverNames)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewRegistryServiceClient(conn).DeleteServer(ctx, &registryv1.DeleteServerRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.done(resp, "server %s removed", args[0])
		})
	}
	return c
}

func serversRefreshCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "refresh NAME", Short: "Ask a server again what it offers", Args: takes(1, 1, "a NAME"),
		Example: "  erlmcp servers refresh weather",
	}
	a := adminFlags(s, c)
	a.completes(c, serverNames)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := registryv1.NewRegistryServiceClient(conn).RefreshServer(ctx, &registryv1.RefreshServerRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.show(resp, serverHead, [][]string{serverRow(resp.GetStatus())})
		})
	}
	return c
}
