package config

func portSettings() []Setting {
	gateway := []Role{RoleGateway}
	return []Setting{
		{
			Key: "ports.api", Env: []string{"ERLMCP_PORT"}, Flag: "port", Kind: Port, Default: "8080", Roles: gateway,
			Doc: "REST API, its OpenAPI document, and every transport on one port; a connection that opens with { is the TCP transport.",
			at:  func(c *Config) any { return &c.Ports.API },
		},
		{
			Key: "ports.http", Env: []string{"ERLMCP_HTTP_PORT"}, Flag: "http-port", Kind: Port, Default: "8081", Roles: gateway,
			Doc: "Streamable HTTP, /mcp.",
			at:  func(c *Config) any { return &c.Ports.HTTP },
		},
		{
			Key: "ports.ws", Env: []string{"ERLMCP_WS_PORT"}, Flag: "ws-port", Kind: Port, Default: "8082", Roles: gateway,
			Doc: "WebSocket, /ws.",
			at:  func(c *Config) any { return &c.Ports.WS },
		},
		{
			Key: "ports.sse", Env: []string{"ERLMCP_SSE_PORT"}, Flag: "sse-port", Kind: Port, Default: "8083", Roles: gateway,
			Doc: "HTTP+SSE of 2024-11-05, /sse.",
			at:  func(c *Config) any { return &c.Ports.SSE },
		},
		{
			Key: "ports.health", Env: []string{"HEALTH_PORT", "ERLMCP_HEALTH_PORT"}, Flag: "health-port", Kind: Port, Default: "9090",
			Doc: "/health, /ready, /status and /metrics.",
			at:  func(c *Config) any { return &c.Ports.Health },
		},
		{
			Key: "ports.metrics", Env: []string{"METRICS_PORT", "ERLMCP_METRICS_PORT"}, Flag: "metrics-port", Kind: Port, Default: "9100",
			Doc: "Prometheus, /metrics.",
			at:  func(c *Config) any { return &c.Ports.Metrics },
		},
		{
			Key: "ports.dist", Env: []string{"ERL_DIST_PORT"}, Kind: Port, DefaultDoc: "ports.dist_min, else 9100",
			Doc: "Where the gRPC ports are counted from: gateway +1, session +2, registry +3, metrics +4. With 0 each picks a free one.",
			at:  func(c *Config) any { return &c.Ports.Dist },
		},
		{
			Key: "ports.dist_range", Env: []string{"ERLANG_DISTRIBUTION_PORT_RANGE"}, Kind: String,
			Doc: "ports.dist_min and ports.dist_max in one, such as 9100-9200.",
			at:  func(c *Config) any { return &portRange{&c.Ports} },
		},
		{
			Key: "ports.dist_min", Env: []string{"ERL_DIST_PORT_MIN"}, Kind: Port, DefaultDoc: "of ports.dist_range",
			Doc: "The gRPC port may not be below this.",
			at:  func(c *Config) any { return &c.Ports.DistMin },
		},
		{
			Key: "ports.dist_max", Env: []string{"ERL_DIST_PORT_MAX"}, Kind: Port, DefaultDoc: "of ports.dist_range",
			Doc: "The gRPC port may not be above this.",
			at:  func(c *Config) any { return &c.Ports.DistMax },
		},
		{
			Key: "ports.grpc", Env: []string{"ERLMCP_GRPC_PORT"}, Flag: "grpc-port", Kind: Port,
			DefaultDoc: "ports.dist + 1 for up and gateway, + 2 session, + 3 registry, + 4 metrics",
			Doc:        "gRPC services of this process, with reflection and health.",
			at:         func(c *Config) any { return &c.Ports.GRPC },
		},
		{
			Key: "https.cert", Env: []string{"ERLMCP_HTTPS_CERT"}, Kind: PEM, Roles: gateway,
			Doc: "Certificate chain for clients: PEM, or the path of a file that is read again when it changes. With it, the ports of all transports and of REST speak TLS and nothing else.",
			at:  func(c *Config) any { return &c.HTTPS.Cert },
		},
		{
			Key: "https.key", Env: []string{"ERLMCP_HTTPS_KEY"}, Kind: PEM, Roles: gateway,
			Doc: "Private key of https.cert: PEM, or a path.",
			at:  func(c *Config) any { return &c.HTTPS.Key },
		},
	}
}
