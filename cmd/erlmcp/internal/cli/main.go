package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"erlmcp.dev/shared/config"
)

// System is the world that commands run in.
type System struct {
	// Run runs roles until ctx ends.
	Run func(ctx context.Context, cfg config.Config, roles []config.Role, out io.Writer) error
	// Migrate brings the tables in Postgres up to date.
	Migrate func(ctx context.Context, cfg config.Config) error
	// Backup writes the embedded store, as of one moment, to a new file.
	Backup func(ctx context.Context, cfg config.Config, to string) error
	// RunStdio runs all roles without ports, for one client on two streams.
	RunStdio func(ctx context.Context, cfg config.Config, in io.Reader, out io.Writer) error
	// WatchPrograms waits for the end of the process that writes to in, and then ends its programs, which mark names.
	WatchPrograms func(in io.Reader, mark string) error

	Args    []string
	Environ []string
	In      io.Reader
	Out     io.Writer
	Err     io.Writer

	// console is the prompt that a command was typed at; nil for the shell.
	console *console
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command that was used wrongly.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// Main runs one command and returns its exit code. SIGINT and SIGTERM end it in good order, a second one at once.
func Main(s System) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// Once the first signal came, the next one has its usual effect again.
	defer context.AfterFunc(ctx, stop)()

	root := newRoot(&s)
	root.SetArgs(s.Args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	line := strings.Join(strings.Fields(err.Error()), " ")
	_, _ = fmt.Fprintln(s.Err, "erlmcp:", line) // there is nowhere else to complain
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(s *System) *cobra.Command {
	root := &cobra.Command{
		Use:   "erlmcp",
		Short: "One address for all your MCP servers",
		Long: "erlmcp serves the Model Context Protocol to many clients: one address, any transport, any protocol\n" +
			"revision, any number of replicas, in front of any tools.",
		Example:       "  erlmcp up                                   # everything in one process\n  erlmcp servers add files -- npx -y @modelcontextprotocol/server-filesystem /data\n  erlmcp tools list",
		Args:          noCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "look", Title: "Look after a running erlmcp:"},
		&cobra.Group{ID: "config", Title: "Configure:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", runCommands(s)...)
	add("run", stdioCommand(s))
	add("look", pingCommand(s), statusCommand(s), logLevelCommand(s), getpidCommand(s), stopCommand(s), memoryCommand(s))
	add("look", adminCommands(s)...)
	add("look", consoleCommand(s))
	add("config", configCommand(s), importCommand(s), migrateCommand(s), backupCommand(s))
	root.AddCommand(versionCommand(), watchdogCommand(s))
	return root
}

// adminCommands are those that talk gRPC: to any erlmcp that can be reached, not only the one on this host.
func adminCommands(s *System) []*cobra.Command {
	return []*cobra.Command{serversCommand(s), toolsCommand(s), sessionsCommand(s), keysCommand(s), nodesCommand(s), usageCommand(s), eventsCommand(s)}
}

// group is a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example, Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("%s needs a command; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		},
	}
	c.AddCommand(commands...)
	return c
}

// noCommand refuses what is no command, and names the nearest.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // letters that may differ
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q; did you mean %s %s?", args[0], cmd.CommandPath(), near[0])
	}
	return usagef("unknown command %q; see %s --help", args[0], cmd.CommandPath())
}

// takes checks the number of arguments; names say what they are.
func takes(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s needs %s; see %s --help", cmd.CommandPath(), names, cmd.CommandPath())
		case len(args) > most && most == 0:
			return usagef("%s takes no argument, but got %q", cmd.CommandPath(), args[0])
		case len(args) > most:
			return usagef("%s takes %s, but got %q too", cmd.CommandPath(), names, args[most])
		}
		return nil
	}
}
