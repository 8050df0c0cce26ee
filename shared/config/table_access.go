package config

import (
	"time"

	"erlmcp.dev/shared/access"
)

func accessSettings() []Setting {
	gateway := []Role{RoleGateway}
	session := []Role{RoleSession}
	return []Setting{
		{
			Key: "auth.anonymous", Env: []string{"ERLMCP_ANONYMOUS"}, Kind: Bool, DefaultDoc: "true in dev on a loopback address, else false", Roles: gateway,
			Doc: "Serves requests without credentials, as the principal \"anonymous\": an administrator where listen is a loopback address, elsewhere one without a role, who may call tools. Refused in production.",
			at:  func(c *Config) any { return &c.Auth.Anonymous },
			check: func(c *Config) (string, string) {
				if c.Auth.Anonymous && c.Env == Production {
					return "anonymous clients are refused in production", "remove it, and give clients keys: erlmcp keys create"
				}
				return "", ""
			},
		},
		{
			Key: "auth.admin_key", Env: []string{"ERLMCP_ADMIN_KEY"}, Kind: Hidden, Roles: []Role{RoleRegistry},
			DefaultDoc: "made at the first start, unless another way in is configured",
			Doc:        "API key of an administrator: erlmcp_ID_SECRET, of a-z and 0-9, SECRET at least 32 of them. One with another id is added; the one before stays until it is revoked.",
			at:         func(c *Config) any { return &c.Auth.AdminKey },
			check: func(c *Config) (string, string) {
				if c.Auth.AdminKey == "" {
					return "", ""
				}
				if _, err := access.GivenKey(string(c.Auth.AdminKey), "", 0, ""); err != nil {
					return err.Error(), "make one: echo erlmcp_$(openssl rand -hex 8)_$(openssl rand -hex 32)"
				}
				return "", ""
			},
		},
		{
			Key: "auth.jwt.issuer", Env: []string{"ERLMCP_JWT_ISSUER"}, Kind: URL, Roles: gateway,
			Doc: "Issuer of bearer tokens that are believed. Its keys are found by OpenID discovery unless auth.jwt.jwks_url says where.",
			at:  func(c *Config) any { return &c.Auth.JWT.Issuer },
		},
		{
			Key: "auth.jwt.audience", Env: []string{"ERLMCP_JWT_AUDIENCE"}, Kind: String, Roles: gateway,
			Doc: "Audience that tokens must name: the public URL of the MCP endpoint.",
			at:  func(c *Config) any { return &c.Auth.JWT.Audience },
		},
		{
			Key: "auth.jwt.jwks_url", Env: []string{"ERLMCP_JWKS_URL", "ERLMCP_JWT_JWKS_URL"}, Kind: URL, Roles: gateway,
			Doc: "Where the issuer's keys are.",
			at:  func(c *Config) any { return &c.Auth.JWT.JWKSURL },
		},
		{
			Key: "auth.jwt.secret", Env: []string{"ERLMCP_JWT_SECRET"}, Kind: Hidden, Roles: gateway,
			Doc: "Verifies tokens signed with HS256, at least 32 bytes; for issuers that publish no keys.",
			at:  func(c *Config) any { return &c.Auth.JWT.Secret },
		},
		{
			Key: "auth.jwt.tenant_claim", Env: []string{"ERLMCP_JWT_TENANT_CLAIM"}, Kind: String, Roles: gateway,
			Doc: "Claim that names whom a token's principal belongs to, such as org_id, for usage to be summed by. None when empty.",
			at:  func(c *Config) any { return &c.Auth.JWT.TenantClaim },
		},
		{
			Key: "auth.allowed_origins", Env: []string{"ERLMCP_ALLOWED_ORIGINS"}, Kind: List, DefaultDoc: "loopback names", Roles: gateway,
			Doc:   "Origins that browsers may call from, such as https://app.example.com; * for any. Pages of the name that they call may too: without a credential only if that is an address or in auth.allowed_hosts.",
			at:    func(c *Config) any { return &c.Auth.Origins },
			check: func(c *Config) (string, string) { return allowList(c.Auth.Origins, true) },
		},
		{
			Key: "auth.allowed_hosts", Env: []string{"ERLMCP_ALLOWED_HOSTS"}, Kind: List, DefaultDoc: "loopback names in dev, else any", Roles: gateway,
			Doc:   "Names that requests may carry in their Host header, such as mcp.example.com; * for any.",
			at:    func(c *Config) any { return &c.Auth.Hosts },
			check: func(c *Config) (string, string) { return allowList(c.Auth.Hosts, false) },
		},
		{
			Key: "limits.max_body", Env: []string{"ERLMCP_MAX_BODY"}, Kind: Bytes, Default: "16MiB", Roles: gateway,
			Doc: "Longest message of a client.", at: func(c *Config) any { return &c.Limits.MaxBody },
			check: func(c *Config) (string, string) {
				if c.Limits.MaxBody < 1<<10 || c.Limits.MaxBody > 1<<30 {
					return c.Limits.MaxBody.String() + " is out of range", "give 1KiB to 1GiB"
				}
				return "", ""
			},
		},
		{
			Key: "limits.connections", Env: []string{"ERL_MAX_PORTS"}, Kind: Int, Default: "65536", Roles: gateway,
			Doc:   "Most client connections that are open at once in one process.",
			at:    func(c *Config) any { return &c.Limits.Connections },
			check: func(c *Config) (string, string) { return within(c.Limits.Connections, 1, 1<<27) },
		},
		{
			Key: "limits.connections_per_principal", Env: []string{"ERLMCP_MAX_CONNECTIONS_PER_PRINCIPAL"}, Kind: Int, Default: "10000", Roles: gateway,
			Doc:   "Most connections of one principal at one gateway, each HTTP request that is being answered counted as one.",
			at:    func(c *Config) any { return &c.Limits.ConnectionsPerPrincipal },
			check: func(c *Config) (string, string) { return within(c.Limits.ConnectionsPerPrincipal, 1, 1<<27) },
		},
		{
			Key: "limits.input_wait", Env: []string{"ERLMCP_INPUT_WAIT"}, Kind: Duration, Default: "10m", Roles: []Role{RoleGateway, RoleSession},
			Doc:   "How long a call waits for the input that it asked its client for, before it is cancelled.",
			at:    func(c *Config) any { return &c.Limits.InputWait },
			check: func(c *Config) (string, string) { return durationWithin(c.Limits.InputWait, time.Second, 24*time.Hour) },
		},
		{
			Key: "limits.keep_alive", Env: []string{"ERLMCP_KEEP_ALIVE"}, Kind: Duration, Default: "15s", Roles: gateway,
			Doc:   "How often a quiet stream sends a comment, and a WebSocket a ping: less than the idle time of any proxy in between.",
			at:    func(c *Config) any { return &c.Limits.KeepAlive },
			check: func(c *Config) (string, string) { return durationWithin(c.Limits.KeepAlive, time.Second, time.Hour) },
		},
		{
			Key: "limits.sessions", Env: []string{"ERL_MAX_ETS_TABLES"}, Kind: Int, Default: "50000", Roles: session,
			Doc:   "Most sessions in memory of one process.",
			at:    func(c *Config) any { return &c.Limits.Sessions },
			check: func(c *Config) (string, string) { return within(c.Limits.Sessions, 1, 1<<27) },
		},
		{
			Key: "limits.sessions_per_principal", Env: []string{"ERLMCP_MAX_SESSIONS_PER_PRINCIPAL"}, Kind: Int, Default: "10000", Roles: session,
			Doc:   "Most sessions of one principal.",
			at:    func(c *Config) any { return &c.Limits.SessionsPerPrincipal },
			check: func(c *Config) (string, string) { return within(c.Limits.SessionsPerPrincipal, 1, 1<<27) },
		},
		{
			Key: "limits.session_idle", Env: []string{"ERLMCP_SESSION_IDLE"}, Kind: Duration, Default: "1h", Roles: session,
			Doc: "How long a session lives without use.",
			at:  func(c *Config) any { return &c.Limits.SessionIdle },
			check: func(c *Config) (string, string) {
				return durationWithin(c.Limits.SessionIdle, time.Second, 30*24*time.Hour)
			},
		},
		{
			Key: "limits.session_age", Env: []string{"ERLMCP_SESSION_AGE"}, Kind: Duration, Default: "168h", Roles: session,
			Doc: "How long a session lives at most, used or not; 0 for ever. Its client is told that there is no such session, and opens another.",
			at:  func(c *Config) any { return &c.Limits.SessionAge },
			check: func(c *Config) (string, string) {
				if c.Limits.SessionAge == 0 {
					return "", ""
				}
				return durationWithin(c.Limits.SessionAge, time.Second, 10*365*24*time.Hour)
			},
		},
		{
			Key: "limits.programs", Env: []string{"ERLMCP_MAX_PROGRAMS"}, Kind: Int, Default: "200", Roles: session,
			Doc:   "Most programs (servers on standard streams) that run at once in one process. Each legacy session that calls one has one of its own.",
			at:    func(c *Config) any { return &c.Limits.Programs },
			check: func(c *Config) (string, string) { return within(c.Limits.Programs, 1, 1<<20) },
		},
		{
			Key: "limits.programs_per_principal", Env: []string{"ERLMCP_MAX_PROGRAMS_PER_PRINCIPAL"}, Kind: Int, Default: "50", Roles: session,
			Doc:   "Most programs of one principal in one process.",
			at:    func(c *Config) any { return &c.Limits.ProgramsPerPrincipal },
			check: func(c *Config) (string, string) { return within(c.Limits.ProgramsPerPrincipal, 1, 1<<20) },
		},
		{
			Key: "limits.program_idle", Env: []string{"ERLMCP_PROGRAM_IDLE"}, Kind: Duration, Default: "30m", Roles: session,
			Doc: "How long a program lives that is not called and whose resources nobody subscribed to. The next call starts it again.",
			at:  func(c *Config) any { return &c.Limits.ProgramIdle },
			check: func(c *Config) (string, string) {
				return durationWithin(c.Limits.ProgramIdle, time.Second, 30*24*time.Hour)
			},
		},
		{
			Key: "limits.rate.enabled", Env: []string{"RATE_LIMIT_ENABLED"}, Kind: Bool, Default: "true", Roles: gateway,
			Doc: "Limits the rate of MCP requests of each principal, over all gateways where they share Redis. One more is answered 429 with Retry-After.",
			at:  func(c *Config) any { return &c.Limits.RateEnabled },
		},
		{
			Key: "limits.rate.per_second", Env: []string{"RATE_LIMIT_PER_SECOND"}, Kind: Int, Default: "1000", Roles: gateway,
			Doc:   "MCP requests per second of one principal.",
			at:    func(c *Config) any { return &c.Limits.RatePerSecond },
			check: func(c *Config) (string, string) { return within(c.Limits.RatePerSecond, 1, 1e9) },
		},
	}
}
