package config

import "time"

func taskSettings() []Setting {
	session := []Role{RoleSession}
	return []Setting{
		{
			Key: "tasks.promote_after", Env: []string{"ERLMCP_TASKS_PROMOTE_AFTER"}, Kind: Duration, Default: "10s", Roles: []Role{RoleGateway, RoleSession},
			Doc: "A tool call that takes longer becomes a task, where its client takes tasks and its server has none of its own; 0 for never.",
			at:  func(c *Config) any { return &c.Tasks.PromoteAfter },
			check: func(c *Config) (string, string) {
				return durationWithin(c.Tasks.PromoteAfter, 0, 24*time.Hour)
			},
		},
		{
			Key: "tasks.keep", Env: []string{"ERLMCP_TASKS_KEEP"}, Kind: Duration, Default: "1h", Roles: session,
			Doc: "How long a task's outcome can be asked for, beyond the longest time that its call may take.",
			at:  func(c *Config) any { return &c.Tasks.Keep },
			check: func(c *Config) (string, string) {
				return durationWithin(c.Tasks.Keep, time.Second, 30*24*time.Hour)
			},
		},
		{
			Key: "tasks.per_principal", Env: []string{"ERLMCP_TASKS_PER_PRINCIPAL"}, Kind: Int, Default: "1000", Roles: session,
			Doc:   "Most tasks of one principal, those included that have ended and are kept. Beyond it, slow calls are answered as without tasks.",
			at:    func(c *Config) any { return &c.Tasks.PerPrincipal },
			check: func(c *Config) (string, string) { return within(c.Tasks.PerPrincipal, 1, 1<<27) },
		},
		{
			Key: "tasks.total", Env: []string{"ERLMCP_TASKS_TOTAL"}, Kind: Int, Default: "10000", Roles: session,
			Doc:   "Most tasks in the whole cluster.",
			at:    func(c *Config) any { return &c.Tasks.Total },
			check: func(c *Config) (string, string) { return within(c.Tasks.Total, 1, 1<<27) },
		},
		{
			Key: "tasks.max_size", Env: []string{"ERLMCP_TASKS_MAX_SIZE"}, Kind: Bytes, Default: "1MiB", Roles: session,
			Doc: "Longest record of a task, its result included; a task whose result is longer fails.",
			at:  func(c *Config) any { return &c.Tasks.MaxSize },
			check: func(c *Config) (string, string) {
				if c.Tasks.MaxSize < 128<<10 || c.Tasks.MaxSize > 1<<28 {
					return c.Tasks.MaxSize.String() + " is out of range", "give 128KiB to 256MiB"
				}
				return "", ""
			},
		},
	}
}
