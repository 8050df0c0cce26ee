// Command bench measures MCP calls to a bare server, through a plain reverse proxy, and through erlmcp:
//
//	bench -erlmcp .build/bin/erlmcp -o docs/performance.md
//	bench                                  only the server and the proxy: the yardsticks
//	bench -erlmcp ... -sessions 10000      what sessions cost
//
// It prints a table in Markdown, and ends with 1 when any call failed. The server and the proxy are this program
// too, started as `bench upstream` and `bench proxy`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"erlmcp.dev/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) (failed bool, err error) {
	switch {
	case len(args) == 3 && args[0] == "upstream":
		return false, bench.Serve(ctx, args[1], args[2], bench.Upstream())
	case len(args) == 4 && args[0] == "proxy":
		target, err := url.Parse(args[3])
		if err != nil {
			return false, err
		}
		return false, bench.Serve(ctx, args[1], args[2], bench.Proxy(target))
	}
	return measure(ctx, args)
}

type options struct {
	erlmcp, calls, clients, only, out string
	cluster                           bool
	rounds, sessions                  int
	round                             time.Duration
}

func measure(ctx context.Context, args []string) (failed bool, err error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.erlmcp, "erlmcp", "", "erlmcp program to measure as well")
	flags.BoolVar(&o.cluster, "cluster", false, "start erlmcp as a cluster with one gateway and one session owner, and count the work of both")
	flags.StringVar(&o.calls, "calls", "", "calls of the declared servers: empty for erlmcp's default, or direct")
	flags.StringVar(&o.clients, "clients", "1,16,128", "numbers of concurrent clients")
	flags.StringVar(&o.only, "only", "", "only the cases whose name contains this, such as \"tools/call, modern\"")
	flags.IntVar(&o.rounds, "rounds", 12, "turns of each target")
	flags.DurationVar(&o.round, "round", 500*time.Millisecond, "length of a turn")
	flags.IntVar(&o.sessions, "sessions", 0, "measure what so many sessions cost instead")
	flags.StringVar(&o.out, "o", "", "document whose marked part the report replaces")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if o.sessions > 0 {
		report, err := measureSessions(ctx, o)
		if err != nil {
			return false, err
		}
		report = "Measured with `" + said(args) + "`. " + report
		fmt.Print(report)
		if o.out != "" {
			err = bench.Replace(o.out, "sessions", report)
		}
		return false, err
	}
	plan := bench.Plan{Rounds: o.rounds, Round: o.round}
	if plan.Clients, err = numbers(o.clients); err != nil {
		return false, err
	}
	for _, c := range bench.Cases() {
		if strings.Contains(c.String(), o.only) {
			plan.Cases = append(plan.Cases, c)
		}
	}
	debug.SetGCPercent(800) // the clients keep the time of each call; collecting them must not show in it
	var stop func() error
	if plan.Targets, stop, err = start(ctx, o); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	all, err := plan.Run(ctx, func(what string) { fmt.Fprintln(os.Stderr, what) })
	if err != nil {
		return false, err
	}
	report := bench.Markdown(all, "proxy", said(args))
	fmt.Print(report)
	if o.out != "" {
		err = bench.Replace(o.out, "bench", report)
	}
	return bench.Failed(all), err
}

// said is the command line as another machine would have it.
func said(args []string) string {
	words := []string{"bench"}
	for _, a := range args {
		if filepath.IsAbs(a) {
			a = filepath.Base(a)
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

func numbers(list string) (found []int, err error) {
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > 200 {
			return nil, fmt.Errorf("-clients: %q is not a number between 1 and 200", word)
		}
		found = append(found, n)
	}
	return found, nil
}
