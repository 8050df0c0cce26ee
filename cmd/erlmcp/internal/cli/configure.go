package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"erlmcp.dev/shared/config"
)

func configCommand(s *System) *cobra.Command {
	return group("config", "Check the configuration, print its documentation", "  erlmcp config check",
		configCheckCommand(s), configDocsCommand(s))
}

func configCheckCommand(s *System) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration and show what holds",
		Long:    "Read flags, environment and file as a start would, and print every setting with where it comes from.\nSecrets are shown as ***.",
		Example: "  erlmcp config check\n  erlmcp config check --role gateway --config erlmcp.yaml",
		Args:    takes(0, 0, ""),
	}
	source := sourceFlags(s, c.Flags(), config.Roles())
	c.Flags().StringVar(&role, "role", "", "check for one `role`: gateway, session, registry or metrics; all in one process when left out")
	c.RunE = func(*cobra.Command, []string) error {
		src := source()
		if role != "" {
			src.Roles = nil
			for _, r := range config.Roles() {
				if string(r) == role {
					src.Roles = []config.Role{r}
				}
			}
			if src.Roles == nil {
				return usagef("--role %q is none of gateway, session, registry and metrics", role)
			}
		}
		cfg, err := config.Load(src)
		if err != nil {
			return err
		}
		for _, w := range cfg.Warnings {
			_, _ = fmt.Fprintln(s.Err, "erlmcp: warning:", w) // best effort
		}
		return cfg.Print(s.Out)
	}
	return c
}

func configDocsCommand(s *System) *cobra.Command {
	return &cobra.Command{
		Use: "docs", Short: "Print the documentation of all settings, in Markdown",
		Example: "  erlmcp config docs > docs/configuration.md", Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(s.Out, config.Docs())
			return err
		},
	}
}

func migrateCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Bring the tables in Postgres up to date, before an upgrade",
		Long:    "Bring the tables in Postgres up to date for this release, and start nothing. Processes of the release before\ngo on with them. Starting a registry or a metrics service does the same.",
		Example: "  ERLMCP_DB_URL=postgres://erlmcp@postgres/erlmcp erlmcp migrate",
		Args:    takes(0, 0, ""),
	}
	source := sourceFlags(s, c.Flags(), config.Roles())
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(source())
		if err != nil {
			return err
		}
		if err := s.Migrate(cmd.Context(), cfg); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, "the tables are up to date")
		return err
	}
	return c
}

func backupCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write the embedded store, as of one moment, to a new file",
		Long:    "Write what `erlmcp up` keeps in its data directory, as of one moment, to a new FILE. It may go on running.\nscripts/backup-data.sh adds checksums, encryption and the keys beside it.",
		Example: "  erlmcp backup /backup/erlmcp.db",
		Args:    takes(1, 1, "a FILE"),
	}
	source := sourceFlags(s, c.Flags(), config.Roles())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(source())
		if err != nil {
			return err
		}
		if err := s.Backup(cmd.Context(), cfg, args[0]); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, "written to", args[0])
		return err
	}
	return c
}

func importCommand(s *System) *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Turn a desktop client's mcpServers JSON into servers: for the configuration file",
		Long:    "Read the JSON in which desktop clients declare MCP servers, and print the servers: part of erlmcp.yaml.\nFILE may be - for standard input.",
		Example: "  erlmcp import ~/.config/client/mcp.json >> erlmcp.yaml",
		Args:    takes(1, 1, "a FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			in := s.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }() // only read
				in = f
			}
			servers, notes, err := config.Import(in)
			for _, n := range notes {
				_, _ = fmt.Fprintln(s.Err, "note:", n) // best effort
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = s.Out.Write(servers)
			return err
		},
	}
}
