package config

import "strings"

func storeSettings() []Setting {
	stores := []Role{RoleRegistry, RoleMetrics, RoleSession}
	live := []Role{RoleGateway, RoleSession}
	return []Setting{
		{
			Key: "db.url", Env: []string{"ERLMCP_DB_URL"}, Kind: Hidden, DefaultDoc: "made of the settings below", Roles: stores,
			Doc: "Postgres, as postgres://user:password@host:port/name?sslmode=... Give this or the settings below; a password may come from db.password.",
			at:  func(c *Config) any { return &c.DB.URL },
		},
		{
			Key: "db.host", Env: []string{"ERLMCP_DB_HOST"}, Kind: String, Default: "localhost", Roles: stores,
			Doc: "Host of Postgres. `up` uses its embedded stores unless db.host or db.url is given.",
			at:  func(c *Config) any { return &c.DB.Host },
			check: func(c *Config) (string, string) {
				if !isHost(c.DB.Host) && !strings.HasPrefix(c.DB.Host, "/") {
					return quote(c.DB.Host) + " is no host", "give a host's name or address without a port, and the port as db.port"
				}
				return "", ""
			},
		},
		{
			Key: "db.port", Env: []string{"ERLMCP_DB_PORT"}, Kind: Port, Default: "5432", Roles: stores,
			Doc: "Port of Postgres.", at: func(c *Config) any { return &c.DB.Port },
			check: func(c *Config) (string, string) { return notZero(c.DB.Port) },
		},
		{
			Key: "db.name", Env: []string{"ERLMCP_DB_NAME"}, Kind: String, Default: "erlmcp", Roles: stores,
			Doc: "Name of the database.", at: func(c *Config) any { return &c.DB.Name },
		},
		{
			Key: "db.user", Env: []string{"ERLMCP_DB_USER"}, Kind: String, Default: "erlmcp", Roles: stores,
			Doc: "User of Postgres.", at: func(c *Config) any { return &c.DB.User },
		},
		{
			Key: "db.password", Env: []string{"ERLMCP_DB_PASSWORD"}, Kind: Hidden, Roles: stores,
			Doc: "Password of db.user.", at: func(c *Config) any { return &c.DB.Password },
		},
		{
			Key: "db.sslmode", Env: []string{"ERLMCP_DB_SSLMODE"}, Kind: Choice, Default: "prefer", Roles: stores,
			Choices: []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
			Doc:     "TLS towards Postgres.", at: func(c *Config) any { return &c.DB.SSLMode },
		},
		{
			Key: "redis.url", Env: []string{"REDIS_URL", "ERLMCP_REDIS_URL"}, Kind: Hidden, DefaultDoc: "made of the settings below", Roles: live,
			Doc: "Redis, as redis://user:password@host:port/0 or rediss://... Give this or the settings below; a password may come from redis.password.",
			at:  func(c *Config) any { return &c.Redis.URL },
		},
		{
			Key: "redis.host", Env: []string{"REDIS_HOST"}, Kind: String, Default: "localhost", Roles: live,
			Doc: "Host of Redis; in modes sentinel and cluster several host:port apart by commas. `up` keeps live state in memory unless redis.host or redis.url is given.",
			at:  func(c *Config) any { return &c.Redis.Host },
		},
		{
			Key: "redis.port", Env: []string{"REDIS_PORT"}, Kind: Port, Default: "6379", Roles: live,
			Doc: "Port of Redis, for hosts that are given without one.", at: func(c *Config) any { return &c.Redis.Port },
			check: func(c *Config) (string, string) { return notZero(c.Redis.Port) },
		},
		{
			Key: "redis.user", Env: []string{"REDIS_USER"}, Kind: String, Roles: live,
			Doc: "User of Redis; the default user when empty.", at: func(c *Config) any { return &c.Redis.User },
		},
		{
			Key: "redis.password", Env: []string{"REDIS_PASSWORD"}, Kind: Hidden, Roles: live,
			Doc: "Password of Redis.", at: func(c *Config) any { return &c.Redis.Password },
		},
		{
			Key: "redis.mode", Env: []string{"REDIS_MODE"}, Kind: Choice, Default: string(RedisSingle), Roles: live,
			Choices: []string{string(RedisSingle), string(RedisSentinel), string(RedisCluster)},
			Doc:     "What redis.host names.", at: func(c *Config) any { return &c.Redis.Mode },
		},
		{
			Key: "redis.master", Env: []string{"REDIS_MASTER"}, Kind: String, Default: "mymaster", Roles: live,
			Doc: "In mode sentinel: the name that the sentinels know the primary by.", at: func(c *Config) any { return &c.Redis.Master },
		},
		{
			Key: "redis.tls", Env: []string{"REDIS_TLS"}, Kind: Bool, DefaultDoc: "true for rediss:// URLs, else false", Roles: live,
			Doc: "TLS towards Redis.", at: func(c *Config) any { return &c.Redis.TLS },
		},
	}
}
