package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"erlmcp.dev/test/bench"
	"erlmcp.dev/test/cluster"
)

// start runs the server, the proxy and, where asked for, erlmcp, and gives the ways to the server.
func start(ctx context.Context, o options) (targets []bench.Target, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "erlmcp-bench-")
	if err != nil {
		return nil, nil, err
	}
	var ends []func(context.Context) error
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var failed []error
		for i := len(ends) - 1; i >= 0; i-- { // the server last
			failed = append(failed, ends[i](ctx))
		}
		return errors.Join(append(failed, os.RemoveAll(dir))...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()

	direct, server, err := serve(starting, dir, "upstream", "direct")
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, server.Stop)
	proxied, proxy, err := serve(starting, dir, "proxy", "proxy", "http://"+direct.address)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, proxy.Stop)
	targets = []bench.Target{direct.Target, proxied.Target}
	if o.erlmcp == "" {
		return targets, stop, nil
	}
	gateway, end, err := startErlmcp(starting, o, dir, direct)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, end)
	for _, endpoint := range gateway.URLs {
		if err := waitListed(starting, endpoint); err != nil {
			return nil, nil, err
		}
	}
	return append(targets, gateway), stop, nil
}

// served is a target of our own and where it listens.
type served struct {
	bench.Target
	address string
}

// serve runs this program's subcommand on free ports.
func serve(ctx context.Context, dir, subcommand, name string, more ...string) (served, *cluster.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return served{}, nil, err
	}
	ports, err := cluster.FreePorts(2)
	if err != nil {
		return served{}, nil, err
	}
	address, metrics := cluster.Address(ports[0]), cluster.Address(ports[1])
	process, err := cluster.Start(ctx, cluster.Program{
		Name: subcommand, Path: self, Args: append([]string{subcommand, address, metrics}, more...), Dir: filepath.Join(dir, subcommand),
		Ready: func(ctx context.Context, _ *cluster.Process) error {
			return errors.Join(answers(ctx, "http://"+address), answers(ctx, "http://"+metrics+"/metrics"))
		},
	})
	if err != nil {
		return served{}, nil, err
	}
	return served{bench.Target{
		Name: name,
		URLs: map[bench.Era]string{
			bench.Modern: "http://" + address + bench.ModernPath,
			bench.Legacy: "http://" + address + bench.LegacyPath,
		},
		Watched: []bench.Watched{{PID: process.PID(), Metrics: "http://" + metrics + "/metrics"}},
	}, address}, process, nil
}

// answers tells whether anything answers, whatever it says.
func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// startErlmcp declares the server once for each era, and reaches it by the views of those names.
func startErlmcp(ctx context.Context, o options, dir string, upstream served) (bench.Target, func(context.Context) error, error) {
	program, err := filepath.Abs(o.erlmcp)
	if err != nil {
		return bench.Target{}, nil, err
	}
	config := "servers:\n"
	for era, url := range upstream.URLs {
		config += fmt.Sprintf("  - name: bench-%s\n    url: %s\n", era, url)
		if o.calls != "" {
			config += "    calls: " + o.calls + "\n"
		}
	}
	erlmcp := cluster.Erlmcp{
		Binary: program, Dir: dir, Config: config,
		// Limits stay on; they must not bite.
		Env: []string{"RATE_LIMIT_PER_SECOND=1000000000", "ERLMCP_LOG_LEVEL=warn"},
	}
	target := bench.Target{Name: "erlmcp", URLs: map[bench.Era]string{}}
	watch := func(nodes ...*cluster.Node) {
		for _, n := range nodes {
			target.Watched = append(target.Watched, bench.Watched{PID: n.PID(), Metrics: "http://" + cluster.Address(n.Ports.Health) + "/metrics"})
		}
	}
	var gateway *cluster.Node
	var stop func(context.Context) error
	if o.cluster {
		c, err := cluster.StartCluster(ctx, erlmcp, cluster.Layout{Gateways: 1, Sessions: 1})
		if err != nil {
			return target, nil, err
		}
		gateway, stop = c.Gateways[0], c.Stop
		watch(c.Gateways[0], c.Sessions[0])
	} else {
		node, err := cluster.Up(ctx, erlmcp)
		if err != nil {
			return target, nil, err
		}
		gateway, stop = node, node.Stop
		watch(node)
	}
	for era := range upstream.URLs {
		target.URLs[era] = gateway.URL("bench-" + string(era))
	}
	return target, stop, nil
}

// waitListed waits until an endpoint lists the echo tool: erlmcp may serve before it knows its servers' tools.
func waitListed(ctx context.Context, endpoint string) error {
	for {
		err := bench.Listed(ctx, endpoint)
		if err == nil {
			return nil
		}
		retry := time.NewTimer(50 * time.Millisecond)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return fmt.Errorf("%s never listed the server's tools: %w", endpoint, err)
		}
	}
}
