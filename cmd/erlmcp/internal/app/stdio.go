package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"erlmcp.dev/gateway/engine"
	"erlmcp.dev/gateway/transport/stdio"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/telemetry"
)

// streams are what the one client of a process without ports is served on.
type streams struct {
	in   io.Reader
	out  io.Writer
	done context.CancelFunc // ends the process
}

// RunStdio runs every role in this process, on embedded stores in a directory that is removed at the end and
// without opening a port, for one client on two streams. It logs to standard error: standard output is the client's.
// It ends with ctx or when the client does.
func RunStdio(ctx context.Context, cfg config.Config, in io.Reader, out io.Writer) error {
	dir, err := os.MkdirTemp("", "erlmcp-stdio-")
	if err != nil {
		return fmt.Errorf("making a directory for this run: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left holds nothing that is needed
	cfg.Roles, cfg.DataDir = config.Roles(), dir
	cfg.DB.Set, cfg.Redis.Set = false, false
	cfg.Auth.Anonymous, cfg.Listen = true, "127.0.0.1" // nobody but whoever started this process can reach it
	p, err := newProcess(cfg, config.Roles(), os.Stderr)
	if err != nil {
		return err
	}
	defer p.close()
	ctx, done := context.WithCancel(ctx)
	defer done()
	p.streams = &streams{in, out, done}
	if err := p.wire(ctx); err != nil {
		return err
	}
	return p.run(ctx, io.Discard)
}

// localAddress is what a process without ports is called where an address is asked for.
const localAddress = "local"

// describeTime is how long the client waits, at most, for its servers to tell what they offer.
const describeTime = 5 * time.Second

// serveStdio adds the client on the process's streams.
func (p *process) serveStdio(e *engine.Engine) {
	server := p.channels(telemetry.TransportStdio, e)
	p.connections = func() map[string]int { return map[string]int{telemetry.TransportStdio: server.Connections()} }
	client := engine.Client{
		Principal: access.Principal{ID: "local", Role: registryv1.Role_ROLE_ADMIN, Method: access.MethodAnonymous},
		Transport: telemetry.TransportStdio,
	}
	p.add("client", func(ctx context.Context) error {
		defer p.streams.done()
		if p.awaitReady(ctx) {
			p.awaitOffers(ctx)
		}
		stdio.Serve(ctx, server, client, p.streams.in, p.streams.out, int(p.cfg.Limits.MaxBody))
		return nil
	})
}

// awaitOffers waits until every server was asked what it offers. A client that lists before would see few of them,
// and not each looks again when it is told to.
func (p *process) awaitOffers(ctx context.Context) {
	deadline := time.After(describeTime)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		pending := false
		current := p.follower.Current()
		for _, name := range current.Servers() {
			state := current.Server(name).GetState()
			pending = pending || state == registryv1.ServerState_SERVER_STATE_PENDING || state == registryv1.ServerState_SERVER_STATE_UNSPECIFIED
		}
		if !pending {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			p.log.Warn("not every server has told what it offers; the client is served without")
			return
		case <-ctx.Done():
			return
		}
	}
}
