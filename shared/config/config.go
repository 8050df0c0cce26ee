package config

import (
	"net"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Config is every setting of one process, checked. It is read-only once loaded.
type Config struct {
	// Roles that this process runs.
	Roles []Role
	// File that was read; empty for none.
	File string
	// Env decides what is strict and what is open.
	Env Environment
	// Node is this process's unique name in the cluster, name@host.
	Node string
	// Listen is the host or address that all ports are opened on.
	Listen string
	// DataDir holds what a process must find again after a restart.
	DataDir string
	// Drain is the longest time that open work gets once the process is told to stop.
	Drain time.Duration
	// LameDuck is how long a gateway goes on taking clients before that.
	LameDuck time.Duration
	// UnhealthyAfter is how long a process goes without what it is of no use without until it is unhealthy; 0 for ever.
	UnhealthyAfter time.Duration
	// Demo adds a built-in server to try things with.
	Demo bool
	// FullsweepAfter is ERL_FULLSWEEP_AFTER: accepted, reported, and without effect on Go's collector.
	FullsweepAfter int

	Ports   Ports
	Cluster Cluster
	TLS     TLS
	HTTPS   HTTPS
	DB      Database
	Redis   Redis
	Auth    Auth
	Limits  Limits
	Tasks   Tasks
	Keep    Keep
	Log     Log
	OTel    OTel

	// Servers that the file declares, in its order.
	Servers []*registryv1.Server

	// Warnings are lines for the log: nothing that stops a start, but something an operator should know.
	Warnings []string

	origins map[string]Origin
}

// Environment is how strict a process is.
type Environment string

// Environments.
const (
	Production Environment = "production"
	Staging    Environment = "staging"
	Dev        Environment = "dev"
)

// Ports are TCP ports; 0 picks a free one.
type Ports struct {
	// API: REST, and every transport behind one port, the TCP transport included.
	API int
	// HTTP, WS and SSE have one transport each.
	HTTP, WS, SSE int
	// Health answers /health, /ready, /status and /metrics.
	Health int
	// Metrics answers /metrics.
	Metrics int
	// Dist is where the gRPC ports are counted from: gateway +1, session +2, registry +3, metrics +4. With 0,
	// they are 0 too.
	Dist int
	// GRPC is the port of this process's gRPC services.
	GRPC int
	// DistMin and DistMax bound GRPC; both 0 for no bounds.
	DistMin, DistMax int
}

// Cluster is how the processes of a cluster know and trust each other.
type Cluster struct {
	// Secrets: the first signs and seals, all are accepted. At most two; none where `up` is to make one.
	Secrets []Secret
	// Session, Registry and Metrics are gRPC targets of those services. Empty where this process runs the role.
	Session, Registry, Metrics []string
	// Advertise is the host:port at which others reach this process's gRPC. Its port is 0 while Ports.GRPC is.
	Advertise string
	// ExpectedNodes is how many processes should live at least; 0 for as many as the metrics service knows.
	ExpectedNodes int
	// Flags is ERL_AFLAGS as given.
	Flags string
}

// TLS is what gRPC between services speaks.
type TLS struct {
	Enabled bool
	// Cert, Key and CA are PEM. Without Cert and Key, services issue their own from the cluster secret.
	Cert, Key, CA Material
}

// HTTPS is TLS towards clients: on the ports of their transports and of the REST API. Without Cert these are plain
// text, for a proxy in front that ends TLS.
type HTTPS struct {
	// Cert and Key are PEM.
	Cert, Key Material
}

// Material is PEM and where it came from.
type Material struct {
	PEM Secret
	// File to read again when it changes; empty when the PEM was given itself.
	File string
}

// Database is Postgres.
type Database struct {
	// Set says that an operator named a database; without that, `up` uses its embedded stores.
	Set bool
	// URL is complete: host, credentials and all.
	URL Secret

	Host     string
	Port     int
	Name     string
	User     string
	Password Secret
	SSLMode  string
}

// Redis is one server, a set of sentinels, or a cluster.
type Redis struct {
	// Set says that an operator named a Redis; without that, `up` keeps live state in memory.
	Set bool
	// URL is complete for mode single: redis or rediss, credentials, host, database number.
	URL Secret
	// Addrs are host:port of the server, of all sentinels, or of some nodes of the cluster.
	Addrs    []string
	Mode     RedisMode
	User     string
	Password Secret
	// DB is the database number; 0 in a cluster.
	DB int
	// TLS towards Redis.
	TLS bool
	// Master is the name that the sentinels know the primary by.
	Master string

	Host string
	Port int
}

// RedisMode says what Redis.Addrs are.
type RedisMode string

// Redis modes.
const (
	RedisSingle   RedisMode = "single"
	RedisSentinel RedisMode = "sentinel"
	RedisCluster  RedisMode = "cluster"
)

// Auth is who may come in.
type Auth struct {
	// AdminKey is an API key of an administrator, in the form of access.GivenKey; empty to have one made.
	AdminKey Secret
	// Anonymous serves requests without credentials, as the principal "anonymous". See [Config.AnonymousAdmin].
	Anonymous bool
	JWT       JWT
	// Origins that browsers may come from, and Hosts that requests may name: protection against DNS rebinding.
	// Each is a host with or without scheme and port, or "*". The loopback names always pass.
	Origins, Hosts []string
}

// JWT says which bearer tokens are believed, beside API keys.
type JWT struct {
	// Issuer that tokens must name. Its keys are at JWKSURL, or found by OpenID discovery.
	Issuer string
	// Audience that tokens must be for.
	Audience string
	JWKSURL  string
	// Secret verifies tokens signed with HS256, where no issuer publishes keys.
	Secret Secret
	// TenantClaim names the claim that holds a principal's tenant; empty for none.
	TenantClaim string
}

// Enabled reports whether any token is believed.
func (j JWT) Enabled() bool { return j.Issuer != "" || j.JWKSURL != "" || j.Secret != "" }

// Limits bound what clients can take.
type Limits struct {
	// MaxBody is the longest message of a client.
	MaxBody Size
	// Connections that clients may hold open, and those of one principal.
	Connections, ConnectionsPerPrincipal int
	// InputWait is how long a call waits for its client's input.
	InputWait time.Duration
	// KeepAlive is how often a quiet connection shows that it lives.
	KeepAlive time.Duration
	// Sessions in memory of one process, and those of one principal in the whole cluster.
	Sessions, SessionsPerPrincipal int
	// SessionIdle is how long a session lives without use.
	SessionIdle time.Duration
	// SessionAge is how long a session lives at most; 0 for ever.
	SessionAge time.Duration
	// Programs that run at once in one process, and those of one principal among them.
	Programs, ProgramsPerPrincipal int
	// ProgramIdle is how long a program lives that nobody calls.
	ProgramIdle time.Duration
	// RateEnabled and RatePerSecond: MCP requests of one principal, cluster-wide.
	RateEnabled   bool
	RatePerSecond int
}

// Tasks are calls that go on behind their answer.
type Tasks struct {
	// PromoteAfter is how long a call takes at least that becomes a task; 0 for never.
	PromoteAfter time.Duration
	// Keep is how long an outcome is kept, beyond the longest time that the call may take.
	Keep time.Duration
	// PerPrincipal and Total are the most tasks.
	PerPrincipal, Total int
	// MaxSize is the longest record of one task, its result included.
	MaxSize Size
}

// Keep is how long the metrics service keeps what it is told.
type Keep struct {
	// Minutes, Hours and Days of usage.
	Minutes, Hours, Days time.Duration
	// Audit events; 0 for ever.
	Audit time.Duration
	// Sessions is the history of sessions.
	Sessions time.Duration
}

// Log is where to and how much.
type Log struct {
	// Level: debug, info, warn or error.
	Level string
	// Format: json, text, or auto (text on a terminal).
	Format string
}

// OTel sends traces and metrics by OTLP. The standard OTEL_EXPORTER_OTLP_* variables hold beside these.
type OTel struct {
	Enabled  bool
	Endpoint string
	// Protocol is grpc or http/protobuf.
	Protocol string
	// Traces is otlp, or none for metrics alone.
	Traces string
	// Metrics is otlp, or none for those that are only scraped.
	Metrics string
	Service string
	// Sampling is the part of traces that is kept, 0 to 1.
	Sampling float64
}

// Runs reports whether this process runs a role.
func (c *Config) Runs(r Role) bool {
	for _, have := range c.Roles {
		if have == r {
			return true
		}
	}
	return false
}

// Loopback reports whether this process can be reached from its own machine only.
func (c *Config) Loopback() bool {
	if c.Listen == "localhost" {
		return true
	}
	ip := net.ParseIP(c.Listen)
	return ip != nil && ip.IsLoopback()
}

// AnonymousAdmin reports whether who has no credential may do everything.
func (c *Config) AnonymousAdmin() bool { return c.Auth.Anonymous && c.Loopback() }

// Whole reports whether this process runs every role, and so needs no cluster.
func (c *Config) Whole() bool { return len(c.Roles) == len(Roles()) }
