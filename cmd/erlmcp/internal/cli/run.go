package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"erlmcp.dev/shared/config"
)

// runCommands are `up` and a command for each role.
func runCommands(s *System) []*cobra.Command {
	up := runCommand(s, config.Roles(), "up", "Run everything in one process",
		"Run every role in one process. Sessions live in memory and the catalogue in one file, unless Redis and Postgres\nare configured.",
		"  erlmcp up\n  erlmcp up --config erlmcp.yaml --port 0")
	up.Aliases = []string{"foreground"}
	commands := []*cobra.Command{up}
	for _, r := range []struct {
		role        config.Role
		short, long string
	}{
		{config.RoleGateway, "Run a gateway: terminates clients' transports", "Run a gateway. It holds nothing that a client misses after it dies: run as many as the load asks for."},
		{config.RoleSession, "Run a session owner: keeps what outlives connections", "Run a session owner: sessions, event logs, calls in flight, stdio programs. Needs Redis."},
		{config.RoleRegistry, "Run the registry: servers, views, keys", "Run the registry, the truth about servers, views and keys. Needs Postgres."},
		{config.RoleMetrics, "Run the metrics service: usage, audit, nodes", "Run the metrics service, which keeps usage, the audit trail and the list of nodes. Needs Postgres."},
	} {
		commands = append(commands, runCommand(s, []config.Role{r.role}, string(r.role), r.short, r.long,
			"  ERLANG_COOKIE_FILE=/run/secrets/cookie erlmcp "+string(r.role)))
	}
	return commands
}

func runCommand(s *System, roles []config.Role, use, short, long, example string) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: takes(0, 0, "")}
	source := sourceFlags(s, c.Flags(), roles)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(source())
		if err != nil {
			return err
		}
		return s.Run(cmd.Context(), cfg, roles, s.Out)
	}
	return c
}

// sourceFlags defines the flags of settings. The function it returns reads them once they are parsed.
func sourceFlags(s *System, flags *pflag.FlagSet, roles []config.Role) func() config.Source {
	src := config.Source{Roles: roles, Search: searchPath(), Environ: s.Environ}
	flags.StringVarP(&src.Path, "config", "c", "", "configuration file (ERLMCP_CONFIG)")
	settings := config.Settings()
	for i := range settings {
		setting := &settings[i]
		if setting.Flag == "" || !usedBy(setting, roles) {
			continue
		}
		flags.Var(&settingFlag{into: &src.Flags, setting: setting}, setting.Flag, flagHelp(setting))
		if setting.Kind == config.Bool {
			flags.Lookup(setting.Flag).NoOptDefVal = "true"
		}
	}
	flags.Var(&anySetting{into: &src.Flags}, "set", "any other setting, `KEY=VALUE`; see docs/configuration.md")
	return func() config.Source { return src }
}

func usedBy(setting *config.Setting, roles []config.Role) bool {
	if len(setting.Roles) == 0 {
		return true
	}
	for _, r := range setting.Roles {
		for _, run := range roles {
			if r == run {
				return true
			}
		}
	}
	return false
}

func flagHelp(s *config.Setting) string {
	help := strings.TrimSuffix(s.Doc, ".")
	if first, _, more := strings.Cut(help, ". "); more {
		help = first
	}
	def := s.Default
	if def == "" {
		def = s.DefaultDoc
	}
	if def != "" {
		def = "; default: " + def
	}
	return fmt.Sprintf("%s (%s%s)", help, s.Env[0], def)
}

// searchPath is where a configuration file is looked for: here, and in etc beside the program's directory.
func searchPath() []string {
	paths := []string{"erlmcp.yaml"}
	if program, err := os.Executable(); err == nil {
		paths = append(paths, filepath.Join(filepath.Dir(filepath.Dir(program)), "etc", "erlmcp.yaml"))
	}
	return paths
}

// settingFlag is the flag of one setting.
type settingFlag struct {
	into    *[]config.Flag
	setting *config.Setting
	text    string
}

func (f *settingFlag) String() string { return f.text }

// Type names the value in the help text.
func (f *settingFlag) Type() string {
	if f.setting.Kind == config.Bool {
		return ""
	}
	return string(f.setting.Kind)
}

func (f *settingFlag) Set(value string) error {
	f.text = value
	*f.into = append(*f.into, config.Flag{Name: "--" + f.setting.Flag, Key: f.setting.Key, Value: value})
	return nil
}

// anySetting is --set KEY=VALUE.
type anySetting struct{ into *[]config.Flag }

func (f *anySetting) String() string { return "" }
func (f *anySetting) Type() string   { return "KEY=VALUE" }

func (f *anySetting) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not KEY=VALUE", text)
	}
	*f.into = append(*f.into, config.Flag{Name: "--set " + key, Key: key, Value: value})
	return nil
}
