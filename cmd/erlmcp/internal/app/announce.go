package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	"erlmcp.dev/shared/config"
)

// announce tells people where the process listens, once it is ready, and what to try.
func (p *process) announce(ctx context.Context, out io.Writer) {
	if p.firstKey != "" {
		_, _ = fmt.Fprintf(out, "First API key, an administrator's, shown only now and kept in %s/admin-key:\n\n  %s\n\n", p.cfg.DataDir, p.firstKey)
	}
	ready := p.awaitReady(ctx)
	if ctx.Err() != nil || p.streams != nil {
		return
	}
	ports := p.ports()
	at := func(name string) string {
		host := p.cfg.Listen
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		return net.JoinHostPort(host, strconv.Itoa(ports[name]))
	}
	http, ws, tcp := "http", "ws", "tcp"
	if p.cfg.HTTPS.Cert.PEM != "" {
		http, ws, tcp = "https", "wss", "tls"
	}
	_, _ = fmt.Fprintf(out, "erlmcp %s, %s\n", build.Version, p.cfg.Node)
	if p.cfg.Runs(config.RoleGateway) {
		_, _ = fmt.Fprintf(out, "  MCP      %s://%s/mcp\n", http, at("http"))
		_, _ = fmt.Fprintf(out, "           %s://%s/ws\n", ws, at("ws"))
		_, _ = fmt.Fprintf(out, "           %s://%s/sse (HTTP+SSE of 2024-11-05)\n", http, at("sse"))
		_, _ = fmt.Fprintf(out, "           %s://%s, where the others are too\n", tcp, at("api"))
		_, _ = fmt.Fprintf(out, "  REST     %s://%s/api/v1/servers\n", http, at("api"))
	}
	_, _ = fmt.Fprintf(out, "  gRPC     %s\n", at("grpc"))
	_, _ = fmt.Fprintf(out, "  health   http://%s/health\n", at("health"))
	_, _ = fmt.Fprintf(out, "  metrics  http://%s/metrics\n", at("metrics"))
	if !ready {
		_, _ = fmt.Fprintf(out, "Not ready yet: http://%s/ready says why.\n", at("health"))
		return
	}
	if p.cfg.Runs(config.RoleGateway) {
		key := ""
		if !p.cfg.Auth.Anonymous {
			key = ` -H "Authorization: Bearer $ERLMCP_API_KEY"`
		}
		_, _ = fmt.Fprintf(out, "Ready. Try:\n\n  curl -s %s://%s/api/v1/tools%s\n\n", http, at("api"), key)
	}
	p.log.Info("ready", "ports", ports)
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
