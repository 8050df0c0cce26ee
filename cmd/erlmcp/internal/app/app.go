// Package app wires roles into a process.
package app

import (
	"context"
	"errors"
	"io"

	"erlmcp.dev/shared/config"
)

// Role is a service that a process runs.
type Role = config.Role

// Run runs roles until ctx ends, then drains them. It tells on out, for people, where they listen.
func Run(ctx context.Context, cfg config.Config, roles []Role, out io.Writer) error {
	_, _, _, _ = ctx, cfg, roles, out
	return errors.New("not wired: this build has no services in it")
}
