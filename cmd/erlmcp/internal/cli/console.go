package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"erlmcp.dev/cmd/erlmcp/internal/build"
)

func consoleCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "remote_console", Aliases: []string{"console"}, Short: "Look after erlmcp at a prompt", Args: takes(0, 0, ""),
		Long: "Open a prompt for the commands that talk gRPC (servers, tools, sessions, keys, nodes), with completion and\n" +
			"history. Each command also prints the grpcurl line that does the same. Where standard input is no terminal,\n" +
			"its lines are carried out, and the exit code is 1 if one of them failed.",
		Example: "  erlmcp remote_console\n  erlmcp remote_console --addr gateway.example.com:9101 --tls\n  echo 'servers list' | erlmcp remote_console",
	}
	a := adminFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		err := a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		})
		if err != nil {
			return err
		}
		o := &console{admin: *a}
		o.inside = *s
		o.inside.console = o
		return o.run(cmd.Context())
	}
	return c
}

// console is a prompt that is connected to erlmcp.
type console struct {
	admin         // where it is connected to
	inside System // what its commands run in
	silent bool   // nothing is taught: completion asks
}

// lines are what a person, or a file, says. next returns io.EOF behind the last one.
type lines interface {
	next() (string, error)
	close()
}

// errLine: some command failed, and has said so.
var errLine = errors.New("a command failed")

func (o *console) run(ctx context.Context) error {
	in, isTerminal := o.terminal(ctx)
	if isTerminal {
		_, _ = fmt.Fprintf(o.inside.Out, "erlmcp %s at %s. Tab completes, help lists the commands, exit leaves.\n", build.Version, o.addr)
	} else {
		in = script{bufio.NewScanner(o.inside.In)}
	}
	defer in.close()
	var failed error
	for ctx.Err() == nil {
		line, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the next command: %w", err)
		}
		words, err := o.words(line)
		if err == nil && len(words) == 0 {
			continue
		}
		if err == nil && (words[0] == "exit" || words[0] == "quit") {
			break
		}
		if err == nil {
			err = o.command(words).ExecuteContext(ctx)
		}
		if err != nil {
			failed = errLine
			_, _ = fmt.Fprintln(o.inside.Err, oneLine(err.Error()))
		}
	}
	if isTerminal {
		return nil // whoever sat there saw what failed
	}
	return failed
}

// words splits a line as a shell does. A line may begin with "erlmcp", and "#" begins a comment line.
func (o *console) words(line string) ([]string, error) {
	if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
		return nil, nil
	}
	words, err := shellquote.Split(line)
	if err != nil {
		return nil, errors.New("a quote is not closed")
	}
	if len(words) > 0 && words[0] == "erlmcp" {
		words = words[1:]
	}
	return words, nil
}

// command is the tree of a prompt's commands, about to run one.
func (o *console) command(words []string) *cobra.Command {
	root := &cobra.Command{
		Use: "erlmcp", Args: noCommand, SilenceErrors: true, SilenceUsage: true,
		Long: "At this prompt, \"erlmcp\" in front of a command may be left out. exit leaves.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(o.inside.In)
	root.SetOut(o.inside.Out)
	root.SetErr(o.inside.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef("%w; see %s --help", err, cmd.CommandPath()) })
	root.AddCommand(adminCommands(&o.inside)...)
	root.SetArgs(words)
	return root
}

// teach shows the grpcurl line of each call that a command makes.
func (o *console) teach(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if m, ok := req.(proto.Message); ok && !o.silent {
		_, _ = fmt.Fprintln(o.inside.Err, "#", o.grpcurl(method, m))
	}
	return call(ctx, method, req, reply, conn, options...)
}

// grpcurl is the line that makes the same call from a shell. The key stays in its variable.
func (o *console) grpcurl(method string, req proto.Message) string {
	line := []string{"grpcurl"}
	switch {
	case o.ca != "":
		line = append(line, "-cacert", quote(o.ca))
	case !o.tls:
		line = append(line, "-plaintext")
	}
	if o.key != "" {
		line = append(line, `-H "authorization: Bearer $ERLMCP_API_KEY"`)
	}
	if body, err := protojson.Marshal(req); err == nil && string(body) != "{}" {
		line = append(line, "-d", quote(string(body)))
	}
	return strings.Join(append(line, o.addr, strings.TrimPrefix(method, "/")), " ")
}

// quote is text as one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// script is lines that no person types.
type script struct{ *bufio.Scanner }

func (s script) next() (string, error) {
	if s.Scan() {
		return s.Text(), nil
	}
	if err := s.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

func (script) close() {}
