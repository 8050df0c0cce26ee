// Command conformance runs the official conformance suite, for every revision it knows, against one endpoint:
//
//	conformance -erlmcp .build/bin/erlmcp             erlmcp up, with the fixtures as its upstream server
//	conformance -erlmcp .build/bin/erlmcp -cluster    its roles as processes, two gateways taking turns
//	conformance -erlmcp .build/bin/erlmcp -promote    tasks made of slow calls, in place of the fixtures' own
//	conformance -erlmcp .build/bin/erlmcp -era legacy a legacy-only server behind it; or modern, or stateless
//	conformance -direct                               the fixtures alone
//	conformance -url http://127.0.0.1:8081/mcp        whatever is there
//
// It prints a table, writes results.json and the suite's own files to BUILD/out, and ends with 1 when something
// failed that baseline.txt does not name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"erlmcp.dev/test/cluster"
	"erlmcp.dev/test/conformance"
)

type options struct {
	url, erlmcp, era, build, set string
	cluster, direct, promote     bool
}

func main() {
	var o options
	flag.StringVar(&o.url, "url", "", "endpoint to test; nothing is started")
	flag.StringVar(&o.erlmcp, "erlmcp", "", "erlmcp program to start and test")
	flag.BoolVar(&o.cluster, "cluster", false, "start erlmcp as a cluster with two gateways and two session owners, on Redis and Postgres")
	flag.BoolVar(&o.direct, "direct", false, "test the fixtures without anything in front")
	flag.StringVar(&o.era, "era", "dual", "revisions that the fixtures serve: dual, modern, legacy or stateless")
	flag.BoolVar(&o.promote, "promote", false, "leave the tasks extension out of the fixtures, so that erlmcp makes tasks of their slow calls")
	flag.StringVar(&o.build, "build", ".build/conformance", "directory for the installed suite, programs, logs and results")
	flag.StringVar(&o.set, "set", "", "run only the scenario sets whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (failed bool, err error) {
	baseline, err := conformance.KnownFailures(o.upstream()...)
	if err != nil {
		return false, err
	}
	if o.build, err = filepath.Abs(o.build); err != nil {
		return false, err
	}
	suite, err := conformance.Install(ctx, o.build)
	if err != nil {
		return false, err
	}
	url, end, err := start(ctx, o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, end()) }()
	out := filepath.Join(o.build, "out")
	var results []conformance.Result
	for _, set := range conformance.Sets() {
		if !strings.Contains(set.Name, o.set) {
			continue
		}
		result, err := suite.Run(ctx, set, url, out)
		if err != nil {
			return false, err
		}
		results = append(results, result)
	}
	if len(results) == 0 {
		return false, fmt.Errorf("no scenario set has %q in its name", o.set)
	}
	return report(results, baseline, url, filepath.Join(out, "results.json"))
}

func report(results []conformance.Result, baseline conformance.Baseline, url, file string) (failed bool, err error) {
	baseline.Mark(results)
	fmt.Println("Conformance of", url)
	if err := conformance.Print(os.Stdout, results); err != nil {
		return false, err
	}
	for _, scenario := range baseline.Stale(results) {
		fmt.Printf("stale: %s does not fail any more: take it out of baseline.txt\n", scenario)
	}
	for _, r := range results {
		if _, count, _, _, _ := r.Count(); count > 0 {
			failed = true
		}
	}
	return failed, conformance.Save(file, results)
}

// start brings up what is to be tested and gives its endpoint and what ends it all.
func start(ctx context.Context, o options) (url string, end func() error, err error) {
	if o.url != "" {
		return o.url, func() error { return nil }, nil
	}
	if o.erlmcp == "" && !o.direct {
		return "", nil, errors.New("nothing to test: give -erlmcp, -direct or -url (see -help)")
	}
	logs := filepath.Join(o.build, "run")
	if err := os.RemoveAll(logs); err != nil { // data of the last run, too
		return "", nil, err
	}
	binary, err := cluster.BuildFixtures(ctx, o.build)
	if err != nil {
		return "", nil, err
	}
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var args []string
	if o.promote {
		args = append(args, "-no-tasks")
	}
	upstream, err := cluster.Fixtures(starting, binary, o.era, filepath.Join(logs, "fixtures"), args...)
	if err != nil {
		return "", nil, err
	}
	stopUpstream := func() error { return stopped(upstream.Stop) }
	if o.direct {
		return upstream.URL, stopUpstream, nil
	}
	url, stop, err := startErlmcp(starting, o, upstream.URL, logs)
	if err != nil {
		return "", nil, errors.Join(err, stopUpstream())
	}
	end = func() error { return errors.Join(stopped(stop), stopUpstream()) }
	if err := conformance.WaitForTool(starting, url, "test_simple_text"); err != nil {
		return "", nil, errors.Join(err, end())
	}
	return url, end, nil
}

func startErlmcp(ctx context.Context, o options, upstream, logs string) (url string, stop func(context.Context) error, err error) {
	program, err := filepath.Abs(o.erlmcp)
	if err != nil {
		return "", nil, err
	}
	erlmcp := cluster.Erlmcp{
		Binary: program,
		Dir:    logs,
		Env:    o.env(),
		Config: "servers:\n  - name: fixtures\n    url: " + upstream + "\n    prefix: \"\"\n",
	}
	if o.cluster {
		c, err := cluster.StartCluster(ctx, erlmcp, cluster.Layout{})
		if err != nil {
			return "", nil, err
		}
		return c.URL(""), c.Stop, nil
	}
	node, err := cluster.Up(ctx, erlmcp)
	if err != nil {
		return "", nil, err
	}
	return node.URL(""), node.Stop, nil
}

// upstream is what kinds of upstream there are, as the baseline names them.
func (o options) upstream() []string {
	kinds := []string{o.era}
	if o.promote {
		kinds = append(kinds, "promote")
	}
	return kinds
}

// env are the settings of the processes that differ from their defaults.
func (o options) env() []string {
	if o.promote {
		return []string{"ERLMCP_TASKS_PROMOTE_AFTER=100ms"}
	}
	return nil
}

// stopped ends something and gives it time to.
func stopped(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return stop(ctx)
}
