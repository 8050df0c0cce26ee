package config

import "time"

func metricsSettings() []Setting {
	roles := []Role{RoleMetrics}
	const century = 100 * 365 * 24 * time.Hour
	return []Setting{
		{
			Key: "keep.minutes", Env: []string{"ERLMCP_KEEP_MINUTES"}, Kind: Duration, Default: "168h", Roles: roles,
			Doc:   "How long usage by the minute is kept.",
			at:    func(c *Config) any { return &c.Keep.Minutes },
			check: func(c *Config) (string, string) { return durationWithin(c.Keep.Minutes, time.Hour, century) },
		},
		{
			Key: "keep.hours", Env: []string{"ERLMCP_KEEP_HOURS"}, Kind: Duration, Default: "2160h", Roles: roles,
			Doc:   "How long usage by the hour is kept.",
			at:    func(c *Config) any { return &c.Keep.Hours },
			check: func(c *Config) (string, string) { return durationWithin(c.Keep.Hours, time.Hour, century) },
		},
		{
			Key: "keep.days", Env: []string{"ERLMCP_KEEP_DAYS"}, Kind: Duration, Default: "17520h", Roles: roles,
			Doc:   "How long usage by the day is kept.",
			at:    func(c *Config) any { return &c.Keep.Days },
			check: func(c *Config) (string, string) { return durationWithin(c.Keep.Days, 24*time.Hour, century) },
		},
		{
			Key: "keep.audit", Env: []string{"ERLMCP_KEEP_AUDIT"}, Kind: Duration, Default: "0s", Roles: roles,
			Doc:   "How long audit events are kept; 0 for ever.",
			at:    func(c *Config) any { return &c.Keep.Audit },
			check: func(c *Config) (string, string) { return durationWithin(c.Keep.Audit, 0, century) },
		},
		{
			Key: "keep.sessions", Env: []string{"ERLMCP_KEEP_SESSIONS"}, Kind: Duration, Default: "2160h", Roles: roles,
			Doc:   "How long the history of sessions is kept.",
			at:    func(c *Config) any { return &c.Keep.Sessions },
			check: func(c *Config) (string, string) { return durationWithin(c.Keep.Sessions, time.Hour, century) },
		},
	}
}
