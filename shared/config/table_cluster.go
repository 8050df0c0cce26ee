package config

import "strings"

func clusterSettings() []Setting {
	target := func(name string, of func(*Config) []string) func(*Config) (string, string) {
		return func(c *Config) (string, string) {
			for _, a := range of(c) {
				if !isTarget(a) {
					return quote(a) + " is no address", "give host:port, or a gRPC target such as dns:///" + name + ":9102"
				}
			}
			return "", ""
		}
	}
	return []Setting{
		{
			Key: "cluster.secret", Env: []string{"ERLANG_COOKIE", "ERLMCP_CLUSTER_SECRET"}, EnvFile: []string{"ERLMCP_COOKIE_FILE"},
			Kind: Hiddens, DefaultDoc: "none; `up` makes one on its first start and keeps it in data_dir",
			Doc: "Secret that all processes share, at least 32 bytes. Two, apart by a comma or a line break, are both accepted and the first is used: so it is changed without downtime.",
			at:  func(c *Config) any { return &c.Cluster.Secrets },
		},
		{
			Key: "cluster.flags", Env: []string{"ERL_AFLAGS"}, Kind: String,
			Doc: "-proto_dist inet_tls turns TLS between services on; inet_tcp is plain text and refused in production. Other flags are only warned of.",
			at:  func(c *Config) any { return &c.Cluster.Flags },
			check: func(c *Config) (string, string) {
				proto, _ := erlFlags(c.Cluster.Flags)
				switch proto {
				case "", "inet_tls", "inet6_tls":
				case "inet_tcp", "inet6_tcp":
					if c.Env == Production {
						return proto + " is plain text, which production refuses", "write -proto_dist inet_tls"
					}
				default:
					return quote(proto) + " is no distribution protocol", "write -proto_dist inet_tls"
				}
				return "", ""
			},
		},
		{
			Key: "cluster.session", Env: []string{"ERLMCP_SESSION_ADDR"}, Flag: "session-addr", Kind: List,
			DefaultDoc: "in dev: this host, ports.dist + 2", Roles: []Role{RoleGateway, RoleRegistry},
			Doc:   "Where session owners answer gRPC: host:port or gRPC targets.",
			at:    func(c *Config) any { return &c.Cluster.Session },
			check: target("erlmcp-session", func(c *Config) []string { return c.Cluster.Session }),
		},
		{
			Key: "cluster.registry", Env: []string{"ERLMCP_REGISTRY_ADDR"}, Flag: "registry-addr", Kind: List,
			DefaultDoc: "in dev: this host, ports.dist + 3", Roles: []Role{RoleGateway, RoleSession},
			Doc:   "Where the registry answers gRPC: host:port or gRPC targets.",
			at:    func(c *Config) any { return &c.Cluster.Registry },
			check: target("erlmcp-registry", func(c *Config) []string { return c.Cluster.Registry }),
		},
		{
			Key: "cluster.metrics", Env: []string{"ERLMCP_METRICS_ADDR"}, Flag: "metrics-addr", Kind: List,
			DefaultDoc: "in dev: this host, ports.dist + 4", Roles: []Role{RoleGateway, RoleSession, RoleRegistry},
			Doc:   "Where the metrics service answers gRPC: host:port or gRPC targets.",
			at:    func(c *Config) any { return &c.Cluster.Metrics },
			check: target("erlmcp-metrics", func(c *Config) []string { return c.Cluster.Metrics }),
		},
		{
			Key: "cluster.advertise", Env: []string{"ERLMCP_ADVERTISE_ADDR"}, Flag: "advertise", Kind: String,
			DefaultDoc: "the host's name (listen, where that is one address) and ports.grpc",
			Doc:        "host:port at which other processes reach this one's gRPC.",
			at:         func(c *Config) any { return &c.Cluster.Advertise },
			check: func(c *Config) (string, string) {
				if !isHostPort(c.Cluster.Advertise) {
					return quote(c.Cluster.Advertise) + " is no host:port", "write an address that other processes reach, such as 10.0.0.7:9102"
				}
				return "", ""
			},
		},
		{
			Key: "cluster.expected_nodes", Env: []string{"ERLMCP_EXPECTED_NODES"}, Kind: Int, Default: "0", Roles: []Role{RoleMetrics},
			Doc:   "How many processes should live at least, for erlmcp_cluster_nodes_expected. Else these are those that live, and for 15 minutes those that fell silent without saying that they leave.",
			at:    func(c *Config) any { return &c.Cluster.ExpectedNodes },
			check: func(c *Config) (string, string) { return within(c.Cluster.ExpectedNodes, 0, 10000) },
		},
		{
			Key: "tls.enabled", Env: []string{"TLS_ENABLED", "ERLMCP_TLS_ENABLED"}, Kind: Bool,
			DefaultDoc: "true for a single role in production, or with -proto_dist inet_tls; else false",
			Doc:        "mTLS on gRPC. Without tls.cert and tls.key, services issue their own certificates from the cluster secret.",
			at:         func(c *Config) any { return &c.TLS.Enabled },
		},
		{
			Key: "tls.cert", Env: []string{"ERLMCP_TLS_CERT"}, Kind: PEM,
			Doc: "Certificate chain: PEM, or the path of a file that is read again when it changes.",
			at:  func(c *Config) any { return &c.TLS.Cert },
		},
		{
			Key: "tls.key", Env: []string{"ERLMCP_TLS_KEY"}, Kind: PEM,
			Doc: "Private key of tls.cert: PEM, or a path.",
			at:  func(c *Config) any { return &c.TLS.Key },
		},
		{
			Key: "tls.ca", Env: []string{"ERLMCP_TLS_CA"}, Kind: PEM,
			Doc: "Authorities that the other services' certificates are checked against: PEM, or a path.",
			at:  func(c *Config) any { return &c.TLS.CA },
		},
	}
}

// erlFlags reads ERL_AFLAGS: the distribution protocol, and the flags that mean nothing here.
func erlFlags(flags string) (proto string, ignored []string) {
	words := strings.Fields(flags)
	for i := 0; i < len(words); i++ {
		w := words[i]
		hasValue := i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") && !strings.HasPrefix(words[i+1], "+")
		switch {
		case w == "-proto_dist" && hasValue:
			i++
			proto = words[i]
		case strings.HasPrefix(w, "-") || strings.HasPrefix(w, "+"):
			ignored = append(ignored, w)
		}
	}
	return proto, ignored
}
