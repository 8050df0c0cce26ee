// Package app wires roles into a process: it makes what they need, starts them in order, and stops them in the
// reverse. It is the only place that knows all services. Start at [Run].
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"erlmcp.dev/shared/config"
)

// Role is a service that a process runs.
type Role = config.Role

// Run runs roles until ctx ends, then drains them. It logs to out and tells there where they listen: where out is a
// terminal, in words for people.
func Run(ctx context.Context, cfg config.Config, roles []Role, out io.Writer) error {
	p, err := newProcess(cfg, roles, out)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.wire(ctx); err != nil {
		return err
	}
	return p.run(ctx, out)
}

// closeTime is how long calls inside the process may take to end once everything else has.
const closeTime = 5 * time.Second

// part is something that runs: run returns nil once its ctx ended and everything of it is over.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// run starts the parts in order and stops them in the reverse when ctx ends or one of them fails.
func (p *process) run(ctx context.Context, out io.Writer) error {
	failed := make(chan error, len(p.parts))
	stops := make([]func(), 0, len(p.parts))
	for _, part := range p.parts {
		running, cancel := context.WithCancel(context.WithoutCancel(ctx))
		var done sync.WaitGroup
		done.Go(func() {
			if err := part.run(running); err != nil {
				failed <- fmt.Errorf("%s: %w", part.name, err)
			}
		})
		stops = append(stops, func() { cancel(); done.Wait() })
	}
	var stopping sync.WaitGroup
	stopping.Go(func() { p.announce(ctx, out) })
	var first error
	select {
	case <-ctx.Done():
		p.log.Info("stopping", "drain", p.cfg.Drain)
	case first = <-failed:
		p.log.Error("a part of the process failed; stopping", "error", first)
	}
	p.health.Drain()
	p.leave()
	if first == nil && p.cfg.Runs(config.RoleGateway) && p.streams == nil {
		time.Sleep(p.cfg.LameDuck) // balancers learn that this gateway is not ready, and take their clients elsewhere
	}
	p.drain()
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	stopping.Wait()
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	errs := []error{first, p.local.Close(late)}
	close(failed)
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
