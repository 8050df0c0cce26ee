package app

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/health"
	"erlmcp.dev/shared/redisx"
)

// needs watches the store of a role of this process. While an outside one can't be reached the process takes no
// requests, for others may reach it. A process of this one role is of no use without its store, and a restart may help
// where the outage is long: the address or the password may be new. One of all roles goes on with lists and calls, and
// must not be restarted, for it would not start.
func (p *process) needs(name string, outside bool, check func(context.Context) error) {
	only := len(p.roles) == 1
	p.conditions = append(p.conditions, p.patient(health.Condition{Name: name, Check: check, Ready: outside || only, Critical: only}))
}

// patient has what is critical count as such only after the time that is set.
func (p *process) patient(c health.Condition) health.Condition {
	c.Patience = p.cfg.UnhealthyAfter
	c.Critical = c.Critical && c.Patience > 0
	return c
}

// reason makes a check of what says in words for anyone what is wrong.
func reason(of func() error) func(context.Context) error {
	return func(context.Context) error {
		if err := of(); err != nil {
			return health.Reason(err.Error())
		}
		return nil
	}
}

// because puts into words for anyone that a check failed; the log has its error too.
func because(why health.Reason, check func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := check(ctx); err != nil {
			return fmt.Errorf("%w: %w", why, err)
		}
		return nil
	}
}

// Reasons why what a process needs counts as away.
const (
	noOwner    health.Reason = "no session owner is ready"
	noMetrics  health.Reason = "the metrics service has not answered for 10 s"
	noRedis    health.Reason = "Redis does not answer"
	ratesAlone health.Reason = "Redis does not answer; each gateway counts requests for itself"
)

// wireOthers watches the services that this process leaves to others. Without them it is degraded and no more: most
// calls go on, and another process is no better off.
func (p *process) wireOthers(context.Context) error {
	other := func(name string, check func(context.Context) error) {
		p.conditions = append(p.conditions, health.Condition{Name: name, Check: check})
	}
	if conn, ok := p.conns[config.RoleSession].(*grpc.ClientConn); ok && (p.cfg.Runs(config.RoleGateway) || p.cfg.Runs(config.RoleRegistry)) {
		other("session", func(context.Context) error {
			conn.Connect() // where nothing was to be asked yet
			if conn.GetState() != connectivity.Ready {
				return noOwner
			}
			return nil
		})
	}
	if !p.cfg.Runs(config.RoleRegistry) {
		other("registry", reason(p.follower.Fresh))
	}
	if !p.cfg.Runs(config.RoleMetrics) {
		other("metrics", func(context.Context) error {
			if _, _, fresh := p.heartbeat.Nodes(); !fresh {
				return noMetrics
			}
			return nil
		})
	}
	if p.redis != nil && !p.cfg.Runs(config.RoleSession) {
		other("redis", because(ratesAlone, func(ctx context.Context) error { return redisx.Ping(ctx, p.redis) }))
	}
	return nil
}
