package config

import (
	"regexp"
	"time"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9_.-]+@[A-Za-z0-9_.:-]+$`)

func generalSettings() []Setting {
	return []Setting{
		{
			Key: "env", Env: []string{"ERLMCP_ENV"}, Flag: "env", Kind: Choice, Default: string(Dev),
			Choices: []string{string(Production), string(Staging), string(Dev)},
			Doc:     "How strict erlmcp is. In production nothing is open and weak secrets are refused. The image sets production.",
			at:      func(c *Config) any { return &c.Env },
		},
		{
			Key: "node", Env: []string{"ERLMCP_NODE_NAME"}, Flag: "node", Kind: String, DefaultDoc: "erlmcp@ and the host's name",
			Doc: "Unique name of this process in the cluster, name@host. A host that is left out, or ${HOSTNAME}, becomes the host's name.",
			at:  func(c *Config) any { return &c.Node },
			check: func(c *Config) (string, string) {
				if !nodeName.MatchString(c.Node) {
					return quote(c.Node) + " is no node name", "write name@host, such as erlmcp@host1"
				}
				return "", ""
			},
		},
		{
			Key: "listen", Env: []string{"ERLMCP_LISTEN"}, Flag: "listen", Kind: String, DefaultDoc: "127.0.0.1 in dev, else 0.0.0.0",
			Doc: "Address that all ports are opened on.",
			at:  func(c *Config) any { return &c.Listen },
			check: func(c *Config) (string, string) {
				if !isHost(c.Listen) {
					return quote(c.Listen) + " is no address", "give an IP address or a host's name, without a port"
				}
				return "", ""
			},
		},
		{
			Key: "data_dir", Env: []string{"ERLMCP_DATA_DIR"}, Flag: "data-dir", Kind: String,
			DefaultDoc: "$XDG_STATE_HOME/erlmcp or ~/.local/state/erlmcp; the image sets /var/lib/erlmcp",
			Doc:        "Directory of what must be found again after a restart: embedded stores, secrets made on the first start, spools.",
			at:         func(c *Config) any { return &c.DataDir },
		},
		{
			Key: "drain", Env: []string{"ERLMCP_DRAIN_TIME"}, Flag: "drain", Kind: Duration, Default: "25s",
			Doc:   "Longest time that open work gets once erlmcp is told to stop. Keep it below the grace time of what runs erlmcp.",
			at:    func(c *Config) any { return &c.Drain },
			check: func(c *Config) (string, string) { return durationWithin(c.Drain, 0, time.Hour) },
		},
		{
			Key: "lame_duck", Env: []string{"ERLMCP_LAME_DUCK"}, Kind: Duration, DefaultDoc: "0s in dev, else 2s", Roles: []Role{RoleGateway},
			Doc:   "How long a gateway that was told to stop goes on taking clients, though it is not ready: longer than what stands before it takes to look at /ready. The drain time begins behind it.",
			at:    func(c *Config) any { return &c.LameDuck },
			check: func(c *Config) (string, string) { return durationWithin(c.LameDuck, 0, time.Hour) },
		},
		{
			Key: "unhealthy_after", Env: []string{"ERLMCP_UNHEALTHY_AFTER"}, Kind: Duration, Default: "15m",
			Doc:   "How long a process of one role goes without what it is of no use without (registry and metrics: Postgres; session: Redis; gateway and session: a first catalogue) until its /health says 503, which has Docker's health check fail and Swarm replace it. 0s for never.",
			at:    func(c *Config) any { return &c.UnhealthyAfter },
			check: func(c *Config) (string, string) { return durationWithin(c.UnhealthyAfter, 0, 24*time.Hour) },
		},
		{
			Key: "demo", Env: []string{"ERLMCP_DEMO"}, Flag: "demo", Kind: Bool, DefaultDoc: "true in dev where no server is declared, else false",
			Doc: "Adds a built-in server to try things with.",
			at:  func(c *Config) any { return &c.Demo },
		},
		{
			Key: "erl.fullsweep_after", Env: []string{"ERL_FULLSWEEP_AFTER"}, Kind: Int, Default: "0",
			Doc:   "Accepted for compatibility and shown by /status. Go's collector has nothing like it; set GOGC or GOMEMLIMIT instead.",
			at:    func(c *Config) any { return &c.FullsweepAfter },
			check: func(c *Config) (string, string) { return within(c.FullsweepAfter, 0, 65535) },
		},
	}
}
