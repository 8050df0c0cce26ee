package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"erlmcp.dev/test/bench"
	"erlmcp.dev/test/cluster"
)

// measureSessions writes what sessions cost: calls of a cluster with one gateway and one owner, and sessions that do
// nothing. Then the owner is killed, and another one adopts them.
func measureSessions(ctx context.Context, o options) (report string, err error) {
	dir, err := os.MkdirTemp("", "erlmcp-bench-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	direct, server, err := serve(starting, dir, "upstream", "direct")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, end(server.Stop)) }()
	program, err := filepath.Abs(o.erlmcp)
	if err != nil {
		return "", err
	}
	many := fmt.Sprint(10 * o.sessions)
	c, err := cluster.StartCluster(starting, cluster.Erlmcp{
		Binary: program, Dir: dir,
		Config: fmt.Sprintf("servers:\n  - {name: modern, url: %q}\n  - {name: legacy, url: %q}\n", direct.URLs[bench.Modern], direct.URLs[bench.Legacy]),
		Env:    []string{"ERLMCP_LOG_LEVEL=warn", "ERLMCP_MAX_SESSIONS_PER_PRINCIPAL=" + many, "ERL_MAX_ETS_TABLES=" + many, "ERL_MAX_PORTS=" + many, "ERLMCP_MAX_CONNECTIONS_PER_PRINCIPAL=" + many},
	}, cluster.Layout{Gateways: 1, Sessions: 2})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, end(c.Stop)) }()
	gateway, next := c.Gateways[0], c.Sessions[1]
	for _, view := range []string{"modern", "legacy"} {
		if err := waitListed(starting, gateway.URL(view)); err != nil {
			return "", err
		}
	}
	next.Kill() // all sessions are to be the other's
	s := site{c: c, gateway: watched(gateway), owner: watched(c.Sessions[0]), sessions: o.sessions, plan: bench.Plan{Rounds: o.rounds, Round: o.round, Clients: []int{16}}}
	for _, part := range []func(context.Context) error{s.calls, s.streams, s.adoption, s.webSockets} {
		if err := part(ctx); err != nil {
			return "", err
		}
	}
	return s.report.String(), nil
}

// end is a stop that takes as long as it may.
func end(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return stop(ctx)
}

func watched(n *cluster.Node) bench.Watched {
	return bench.Watched{PID: n.PID(), Metrics: "http://" + cluster.Address(n.Ports.Health) + "/metrics"}
}

// site is where sessions are measured, and what came of it.
type site struct {
	c              *cluster.Cluster
	gateway, owner bench.Watched
	sessions       int
	plan           bench.Plan
	report         strings.Builder
	open           []string
	held           *bench.Held
}

func (s *site) row(what, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, what+": "+text)
	fmt.Fprintf(&s.report, "| %s | %s |\n", what, text)
}

// calls compares a call through a session's owner with one that needs none.
func (s *site) calls(ctx context.Context) error {
	url := s.c.Gateways[0].URL
	s.plan.Targets = []bench.Target{{
		Name: "erlmcp", URLs: map[bench.Era]string{bench.Modern: url("modern"), bench.Legacy: url("legacy")},
		Watched: []bench.Watched{s.gateway, s.owner},
	}}
	s.plan.Cases = []bench.Case{{Era: bench.Modern, Method: "tools/call"}, {Era: bench.Legacy, Method: "tools/call"}}
	all, err := s.plan.Run(ctx, func(what string) { fmt.Fprintln(os.Stderr, what) })
	if err != nil {
		return err
	}
	if bench.Failed(all) {
		return fmt.Errorf("calls failed:\n%s", bench.Markdown(all, "erlmcp", "bench"))
	}
	fmt.Fprintf(&s.report, "On the same %d cores, a cluster of one gateway and one session owner, each a process, with a private Redis.\n\n| what | figure |\n|---|---|\n", runtime.NumCPU())
	for i, what := range []string{"a call without a session, 16 clients", "a call of a session, one hop to its owner, 16 clients"} {
		m := all[i]
		s.row(what, "%.0f/s, p50 %d µs, p99 %d µs, %d µs of CPU of both processes", m.PerSecond(), m.Quantile(0.5).Microseconds(), m.Quantile(0.99).Microseconds(), m.CPUPerCall().Microseconds())
	}
	s.row("the hop's price", "%.2f times the CPU, %.2f times the median time", float64(all[1].CPUPerCall())/float64(all[0].CPUPerCall()), float64(all[1].Quantile(0.5))/float64(all[0].Quantile(0.5)))
	return nil
}

// streams opens sessions, and then the GET stream of each.
func (s *site) streams(ctx context.Context) error {
	endpoint := s.c.Gateways[0].URL("legacy")
	gateway, owner, err := s.memory(ctx)
	if err != nil {
		return err
	}
	var took time.Duration
	if s.open, took, err = bench.OpenSessions(ctx, endpoint, s.sessions); err != nil {
		return err
	}
	s.row("sessions created", "%.0f per second (%d by 32 clients; two requests each)", float64(s.sessions)/took.Seconds(), s.sessions)
	if s.held, err = bench.HoldStreams(ctx, endpoint, s.open); err != nil {
		return err
	}
	nowGateway, nowOwner, err := s.memory(ctx)
	if err != nil {
		return err
	}
	s.row("memory of an idle session with a GET stream", "%.1f KB of the gateway, %.1f KB of its owner", s.each(nowGateway-gateway), s.each(nowOwner-owner))
	return nil
}

func (s *site) each(bytes float64) float64 { return bytes / 1000 / float64(s.sessions) }

func (s *site) memory(ctx context.Context) (gateway, owner float64, err error) {
	if gateway, err = s.gateway.Settled(ctx); err != nil {
		return 0, 0, err
	}
	owner, err = s.owner.Settled(ctx)
	return gateway, owner, err
}

// adoption kills the owner, and waits until the other one has all its sessions: the gateway asks for those whose
// streams it passes on.
func (s *site) adoption(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	next := s.c.Sessions[1]
	if err := next.Restart(ctx); err != nil {
		return err
	}
	s.c.Sessions[0].Kill()
	began := time.Now()
	s.owner = watched(next)
	for {
		n, err := s.owner.Metric(ctx, "erlmcp_sessions_active")
		if err != nil {
			return err
		}
		if int(n) >= s.sessions {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%.0f of %d sessions were adopted: %w", n, s.sessions, ctx.Err())
		}
	}
	took := time.Since(began)
	s.row(fmt.Sprintf("adoption of %d sessions whose owner was killed", s.sessions), "%.1f s, %.0f per second", took.Seconds(), float64(s.sessions)/took.Seconds())
	return nil
}

// webSockets opens as many sessions on WebSockets, at a gateway that was started again.
func (s *site) webSockets(ctx context.Context) error {
	s.held.Close()
	gateway := s.c.Gateways[0]
	gateway.Kill()
	if err := gateway.Restart(ctx); err != nil {
		return err
	}
	s.gateway = watched(gateway)
	if err := waitListed(ctx, gateway.URL("legacy")); err != nil {
		return err
	}
	was, err := s.gateway.Settled(ctx)
	if err != nil {
		return err
	}
	endpoint := url.URL{Scheme: "ws", Host: cluster.Address(gateway.Ports.WS), Path: "/ws/legacy"}
	held, err := bench.HoldWebSockets(ctx, endpoint.String(), s.sessions)
	if err != nil {
		return err
	}
	defer held.Close()
	now, err := s.gateway.Settled(ctx)
	if err != nil {
		return err
	}
	s.row("memory of an idle session on a WebSocket", "%.1f KB of the gateway", s.each(now-was))
	return nil
}
