package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/telemetry"
)

// announce tells where the process listens, once it is ready: on a terminal in words, with what to try; elsewhere in a
// line of the log, since programs read those.
func (p *process) announce(ctx context.Context, out io.Writer) {
	people := p.cfg.Log.Format != telemetry.FormatJSON && telemetry.IsTerminal(out)
	kept := filepath.Join(p.cfg.DataDir, adminKeyName)
	switch {
	case p.firstKey == "":
	case people:
		_, _ = fmt.Fprintf(out, "First API key, an administrator's, shown only now and kept in %s:\n\n  %s\n\n", kept, p.firstKey)
	default:
		p.tell(ctx, "First API key, an administrator's, shown only now", "key", p.firstKey, "kept_in", kept)
	}
	ready := p.awaitReady(ctx)
	if ctx.Err() != nil || p.streams != nil {
		return
	}
	at := p.addresses()
	if people {
		_, _ = io.WriteString(out, p.banner(at, ready)) // in one piece: lines of the log may come meanwhile
		return
	}
	message := "ready"
	if !ready {
		message = "not ready yet; /ready of the health port says why"
	}
	told := []any{"version", build.Version, "roles", p.roleNames(), "ports", p.ports()}
	if p.cfg.Runs(config.RoleGateway) {
		told = append(told, "mcp", at.mcp, "ws", at.ws, "sse", at.sse, "tcp", at.tcp, "rest", at.rest)
	}
	p.tell(ctx, message, append(told, "grpc", at.grpc, "health", at.health, "metrics", at.metrics)...)
}

// tell logs what is to be seen at every level.
func (p *process) tell(ctx context.Context, message string, args ...any) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, message, 0)
	r.Add(args...)
	_ = p.log.Handler().Handle(ctx, r) // there is nowhere else to tell
}

// addresses are where a process is reached; the first five are a gateway's.
type addresses struct{ mcp, ws, sse, tcp, rest, grpc, health, metrics string }

func (p *process) addresses() addresses {
	host, ports := p.cfg.Listen, p.ports()
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	at := func(name string) string { return net.JoinHostPort(host, strconv.Itoa(ports[name])) }
	http, ws, tcp := "http://", "ws://", "tcp://"
	if p.cfg.HTTPS.Cert.PEM != "" {
		http, ws, tcp = "https://", "wss://", "tls://"
	}
	return addresses{
		mcp: http + at("http") + "/mcp", ws: ws + at("ws") + "/ws", sse: http + at("sse") + "/sse", tcp: tcp + at("api"),
		rest: http + at("api") + "/api/v1",
		grpc: at("grpc"), health: "http://" + at("health"), metrics: "http://" + at("metrics") + "/metrics",
	}
}

// banner is what people are told.
func (p *process) banner(at addresses, ready bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "erlmcp %s, %s\n", build.Version, p.cfg.Node)
	if p.cfg.Runs(config.RoleGateway) {
		fmt.Fprintf(&b, "  MCP      %s\n", at.mcp)
		fmt.Fprintf(&b, "           %s\n", at.ws)
		fmt.Fprintf(&b, "           %s (HTTP+SSE of 2024-11-05)\n", at.sse)
		fmt.Fprintf(&b, "           %s, where the others are too\n", at.tcp)
		fmt.Fprintf(&b, "  REST     %s/servers\n", at.rest)
	}
	fmt.Fprintf(&b, "  gRPC     %s\n", at.grpc)
	fmt.Fprintf(&b, "  health   %s/health\n", at.health)
	fmt.Fprintf(&b, "  metrics  %s\n", at.metrics)
	switch {
	case !ready:
		fmt.Fprintf(&b, "Not ready yet: %s/ready says why.\n", at.health)
	case p.cfg.Runs(config.RoleGateway):
		key := ""
		if !p.cfg.Auth.Anonymous {
			key = ` -H "Authorization: Bearer $ERLMCP_API_KEY"`
		}
		fmt.Fprintf(&b, "Ready. Try:\n\n  curl -s %s/tools%s\n\n", at.rest, key)
	default:
		b.WriteString("Ready.\n")
	}
	return b.String()
}

// awaitReady waits for the process to be ready, and reports whether it is after a while.
func (p *process) awaitReady(ctx context.Context) bool {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !p.health.Ready() {
		select {
		case <-look.C:
		case <-deadline.C:
			return false
		case <-p.draining.Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}
