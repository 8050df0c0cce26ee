package cli

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"erlmcp.dev/gateway/transport/stdio"
	"erlmcp.dev/shared/config"
)

func stdioCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "stdio", Short: "Serve one client on standard input and output",
		Long: "Serve the MCP client that starts this command, on standard input and output. Everything runs in this process and\n" +
			"no port is opened; what it keeps is gone at the end. With --connect the client's messages go to an erlmcp that\n" +
			"runs already.",
		Example: "  erlmcp stdio --config erlmcp.yaml\n  erlmcp stdio --connect http://127.0.0.1:8081/mcp",
		Args:    takes(0, 0, ""),
	}
	var connect, key string
	c.Flags().StringVar(&connect, "connect", "", "`URL` of the Streamable HTTP endpoint of an erlmcp that runs already")
	c.Flags().StringVar(&key, "key", "", "with --connect: API `key` (ERLMCP_API_KEY, which other users can't see)")
	source := sourceFlags(s, c.Flags(), config.Roles())
	c.Flags().VisitAll(func(f *pflag.Flag) {
		f.Hidden = f.Hidden || strings.HasSuffix(f.Name, "port") // none is opened
	})
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if connect != "" {
			return s.bridge(cmd, connect, key)
		}
		cfg, err := config.Load(source())
		if err != nil {
			return err
		}
		return s.RunStdio(cmd.Context(), cfg, s.In, s.Out)
	}
	return c
}

// bridge passes the client's messages to a running erlmcp.
func (s *System) bridge(cmd *cobra.Command, connect, key string) error {
	if u, err := url.Parse(connect); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usagef("--connect needs a URL such as http://127.0.0.1:8081/mcp, not %q", connect)
	}
	if key == "" {
		key = s.lookup("ERLMCP_API_KEY")
	}
	if path := s.lookup("ERLMCP_API_KEY_FILE"); key == "" && path != "" {
		held, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("ERLMCP_API_KEY_FILE: %w", err)
		}
		key = string(held)
	}
	b := &stdio.Bridge{URL: connect, Key: key}
	return b.Run(cmd.Context(), s.In, s.Out)
}
