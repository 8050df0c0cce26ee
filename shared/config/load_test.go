package config_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/testkit"
)

const cookie = "0123456789abcdef0123456789abcdef"

func load(t *testing.T, src config.Source) config.Config {
	t.Helper()
	c, err := config.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// with is a host with some variables set.
func with(roles []config.Role, env ...string) config.Source {
	src := source()
	src.Roles = roles
	src.Environ = append(src.Environ, env...)
	return src
}

func only(r config.Role) []config.Role { return []config.Role{r} }

func TestNothingSetGivesAnOpenDevelopmentNode(t *testing.T) {
	c := load(t, source())
	got := fmt.Sprint(c.Env, " ", c.Node, " ", c.Listen, " ", c.DataDir, " ", c.Demo, " ", c.Auth.Anonymous, " ", c.TLS.Enabled, " ", c.DB.Set, c.Redis.Set, " ", c.Cluster.Advertise)
	want := "dev erlmcp@host1 127.0.0.1 /home/op/.local/state/erlmcp true true false false false 127.0.0.1:9101"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if diff := cmp.Diff(config.Ports{API: 8080, HTTP: 8081, WS: 8082, SSE: 8083, Health: 9090, Metrics: 9100, Dist: 9100, GRPC: 9101}, c.Ports); diff != "" {
		t.Error(diff)
	}
	limits := config.Limits{
		MaxBody: 16 << 20, Connections: 65536, ConnectionsPerPrincipal: 10000, InputWait: 10 * time.Minute, Sessions: 50000, SessionsPerPrincipal: 10000,
		SessionIdle: time.Hour, SessionAge: 168 * time.Hour, Programs: 200, ProgramsPerPrincipal: 50, ProgramIdle: 30 * time.Minute, KeepAlive: 15 * time.Second, RateEnabled: true, RatePerSecond: 1000,
	}
	if diff := cmp.Diff(limits, c.Limits); diff != "" {
		t.Error(diff)
	}
}

// Who has no credential is an administrator on loopback only, and let in elsewhere only where that is asked for.
func TestNobodyIsAnAdministratorWithoutACredentialBeyondThisMachine(t *testing.T) {
	for _, test := range []struct {
		env              []string
		anonymous, admin bool
		hosts            string
	}{
		{[]string{"ERLMCP_ENV=dev"}, true, true, "[]"},
		{[]string{"ERLMCP_ENV=dev", "ERLMCP_LISTEN=::1"}, true, true, "[]"},
		{[]string{"ERLMCP_ENV=dev", "ERLMCP_LISTEN=0.0.0.0"}, false, false, "[]"},
		{[]string{"ERLMCP_ENV=dev", "ERLMCP_LISTEN=::"}, false, false, "[]"},
		{[]string{"ERLMCP_ENV=dev", "ERLMCP_LISTEN=host1"}, false, false, "[]"},
		{[]string{"ERLMCP_ENV=dev", "ERLMCP_LISTEN=0.0.0.0", "ERLMCP_ANONYMOUS=true"}, true, false, "[]"},
		{[]string{"ERLMCP_ENV=staging", "ERLMCP_ANONYMOUS=true"}, true, false, "[*]"},
		{[]string{"ERLMCP_ENV=staging", "ERLMCP_ANONYMOUS=true", "ERLMCP_LISTEN=localhost"}, true, true, "[]"}, // pages that resolve to it stay out
	} {
		c := load(t, with(nil, test.env...))
		if c.Auth.Anonymous != test.anonymous || c.AnonymousAdmin() != test.admin || fmt.Sprint(c.Auth.Hosts) != test.hosts {
			t.Errorf("%v: anonymous %v, as an administrator %v, hosts %v", test.env, c.Auth.Anonymous, c.AnonymousAdmin(), c.Auth.Hosts)
		}
	}
}

func TestProductionIsClosedByDefault(t *testing.T) {
	c := load(t, with(nil, "ERLMCP_ENV=production"))
	if c.Auth.Anonymous || c.Demo || c.Listen != "0.0.0.0" {
		t.Errorf("anonymous %v, demo %v, listen %s", c.Auth.Anonymous, c.Demo, c.Listen)
	}
	if c.TLS.Enabled {
		t.Error("one process has no one to speak TLS with")
	}
	role := load(t, with(only(config.RoleMetrics), "ERLMCP_ENV=production", "ERLANG_COOKIE="+cookie))
	if !role.TLS.Enabled {
		t.Error("a role in production speaks plain text")
	}
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	src := source()
	src.Path, src.ReadFile = "erlmcp.yaml", withFile("ports: {api: 1, http: 1001, ws: 1002}\n")
	src.Environ = append(src.Environ, "ERLMCP_PORT=2", "ERLMCP_HTTP_PORT=2001")
	src.Flags = []config.Flag{{Name: "--port", Key: "ports.api", Value: "3"}}
	c := load(t, src)
	if got, want := fmt.Sprint(c.Ports.API, c.Ports.HTTP, c.Ports.WS, c.Ports.SSE), "3 2001 1002 8083"; got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
	origins := map[string]string{}
	for _, e := range c.Effective() {
		origins[e.Key] = strings.TrimSpace(string(e.Origin.Layer) + " " + e.Origin.Place)
	}
	for key, want := range map[string]string{
		"ports.api": "flag --port", "ports.http": "env ERLMCP_HTTP_PORT",
		"ports.ws": "file erlmcp.yaml:1 ports.ws", "ports.sse": "default",
	} {
		if origins[key] != want {
			t.Errorf("%s comes from %q, want %q", key, origins[key], want)
		}
	}
}

func TestGuidesProductionTemplateStartsEveryRole(t *testing.T) {
	dir := t.TempDir()
	secret := func(name, value string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := []string{
		"ERLMCP_ENV=production", "ERLMCP_VERSION=3.0.0", "ERLMCP_IMAGE=erlmcp:3.0.0", "ERLMCP_REPLICAS=5",
		"ERLANG_COOKIE_FILE=" + secret("cookie", cookie), "ERL_AFLAGS=-proto_dist inet_tls",
		"ERL_DIST_PORT=9100", "ERL_DIST_PORT_MIN=9100", "ERL_DIST_PORT_MAX=9200", "ERLMCP_NODE_NAME=erlmcp@${HOSTNAME}",
		"ERLMCP_PORT=8080", "METRICS_PORT=9100", "HEALTH_PORT=9090", "ERLMCP_LOG_LEVEL=warn",
		"ERLMCP_DB_HOST=postgres.prod.svc.cluster.local", "ERLMCP_DB_PORT=5432", "ERLMCP_DB_NAME=erlmcp_prod", "ERLMCP_DB_USER=erlmcp",
		"ERLMCP_DB_PASSWORD_FILE=" + secret("db", "p@ss/w:rd"),
		"REDIS_HOST=redis.prod.svc.cluster.local", "REDIS_PORT=6379", "REDIS_PASSWORD_FILE=" + secret("redis", "r#1"),
		"OTEL_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector:4317", "OTEL_SERVICE_NAME=erlmcp", "OTEL_SAMPLING_RATE=0.01",
		"TLS_ENABLED=true", "RATE_LIMIT_ENABLED=true", "RATE_LIMIT_PER_SECOND=1000",
		"ERLMCP_CPU_LIMIT=2.0", "ERLMCP_MEMORY_LIMIT=4G", "ERLMCP_CPU_RESERVATION=0.5", "ERLMCP_MEMORY_RESERVATION=1G",
		// What the guide leaves to the stack.
		"ERLMCP_SESSION_ADDR=erlmcp-session:9102", "ERLMCP_REGISTRY_ADDR=dns:///erlmcp-registry:9103", "ERLMCP_METRICS_ADDR=erlmcp-metrics:9104",
	}
	for i, role := range config.Roles() {
		c := load(t, with(only(role), env...))
		if c.Ports.GRPC != 9101+i || c.Node != "erlmcp@host1" || !c.TLS.Enabled || c.OTel.Sampling != 0.01 || c.Log.Level != "warn" {
			t.Errorf("%s: %+v", role, c)
		}
		if got, want := string(c.DB.URL), "postgres://erlmcp:p%40ss%2Fw%3Ard@postgres.prod.svc.cluster.local:5432/erlmcp_prod?sslmode=prefer"; got != want {
			t.Errorf("database %s, want %s", got, want)
		}
		if got, want := string(c.Redis.URL), "redis://:r%231@redis.prod.svc.cluster.local:6379/0"; got != want {
			t.Errorf("redis %s, want %s", got, want)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("warnings: %v", c.Warnings)
		}
	}
	load(t, with(nil, env...))
}

func TestKubernetesServiceVariablesSetNothing(t *testing.T) {
	c := load(t, with(nil,
		"ERLMCP_PORT=tcp://10.0.0.1:8080", "ERLMCP_SERVICE_HOST=10.0.0.1", "ERLMCP_SERVICE_PORT=8080", "ERLMCP_SERVICE_PORT_HTTP=8080",
		"ERLMCP_PORT_8080_TCP=tcp://10.0.0.1:8080", "ERLMCP_PORT_8080_TCP_PROTO=tcp", "ERLMCP_PORT_8080_TCP_PORT=8080", "ERLMCP_PORT_8080_TCP_ADDR=10.0.0.1",
		"ERLMCP_SESSION_PORT=tcp://10.0.0.2:9102", "ERLMCP_SESSION_SERVICE_HOST=10.0.0.2", "ERLMCP_METRICS_PORT=tcp://10.0.0.3:9104",
		"REDIS_PORT=tcp://10.0.0.4:6379",
	))
	if c.Ports.API != 8080 || c.Ports.Metrics != 9100 || c.Redis.Port != 6379 {
		t.Errorf("ports %+v, redis %d", c.Ports, c.Redis.Port)
	}
}

func TestEmptyVariablesCountAsNotSet(t *testing.T) {
	c := load(t, with(nil, "ERLMCP_PORT=", "ERLANG_COOKIE=", "ERLMCP_NODE_NAME=  ", "ERLMCP_TYPO="))
	if c.Ports.API != 8080 || len(c.Cluster.Secrets) != 0 || c.Node != "erlmcp@host1" {
		t.Errorf("%+v", c)
	}
}

func TestTwoClusterSecretsAllowRotation(t *testing.T) {
	other := strings.ToUpper(cookie)
	for _, value := range []string{cookie + "," + other, cookie + "\n" + other} {
		c := load(t, with(nil, "ERLANG_COOKIE="+value, "ERLMCP_CLUSTER_SECRET="+value))
		if len(c.Cluster.Secrets) != 2 || string(c.Cluster.Secrets[0]) != cookie || string(c.Cluster.Secrets[1]) != other {
			t.Errorf("%q gives %d secrets", value, len(c.Cluster.Secrets))
		}
	}
}

func TestRolesFindEachOtherOnOneDevelopmentHost(t *testing.T) {
	c := load(t, with(only(config.RoleSession), "ERLANG_COOKIE="+cookie, "ERL_DIST_PORT=7000"))
	if c.Ports.GRPC != 7002 || !slices.Equal(c.Cluster.Registry, []string{"127.0.0.1:7003"}) ||
		!slices.Equal(c.Cluster.Metrics, []string{"127.0.0.1:7004"}) || c.Cluster.Session != nil {
		t.Errorf("%+v %+v", c.Ports, c.Cluster)
	}
}

func TestEveryPortMayBeZero(t *testing.T) {
	c := load(t, with(nil, "ERLMCP_PORT=0", "ERLMCP_HTTP_PORT=0", "ERLMCP_WS_PORT=0", "ERLMCP_SSE_PORT=0", "HEALTH_PORT=0", "METRICS_PORT=0", "ERL_DIST_PORT=0"))
	if c.Ports != (config.Ports{}) {
		t.Errorf("%+v", c.Ports)
	}
}

func TestDistributionRangeMovesTheGRPCPorts(t *testing.T) {
	c := load(t, with(nil, "ERLANG_DISTRIBUTION_PORT_RANGE=7100-7200"))
	if c.Ports.GRPC != 7101 || c.Ports.DistMin != 7100 || c.Ports.DistMax != 7200 {
		t.Errorf("%+v", c.Ports)
	}
}

func TestUnknownVMFlagsAreOnlyWarnedOf(t *testing.T) {
	c := load(t, with(nil, "ERL_AFLAGS=-proto_dist inet_tls +P 5000000 -kernel inet_dist_listen_min 9100"))
	if d := cmp.Diff(map[string]string{
		"ERL_FULLSWEEP_AFTER": "0: no effect, Go's collector has nothing like it; set GOGC or GOMEMLIMIT instead",
		"ERL_AFLAGS":          "+P -kernel: no effect, these flags mean nothing to erlmcp",
	}, c.Inert()); d != "" {
		t.Error(d)
	}
	if !c.TLS.Enabled || len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "ERL_AFLAGS: +P") {
		t.Errorf("TLS %v, warnings %q", c.TLS.Enabled, c.Warnings)
	}
}

func TestRedisModes(t *testing.T) {
	for _, test := range []struct {
		name  string
		env   []string
		addrs string
		url   string
	}{
		{"url", []string{"REDIS_URL=rediss://me@r:7000/3", "REDIS_PASSWORD=x"}, "r:7000", "rediss://me:x@r:7000/3"},
		{"sentinel", []string{"REDIS_MODE=sentinel", "REDIS_HOST=a:26379,b", "REDIS_PORT=26380"}, "a:26379 b:26380", ""},
		{"cluster", []string{"REDIS_MODE=cluster", "REDIS_HOST=a,b,c"}, "a:6379 b:6379 c:6379", ""},
		{"address", []string{"REDIS_HOST=::1"}, "[::1]:6379", "redis://[::1]:6379/0"},
	} {
		c := load(t, with(nil, test.env...))
		if got := strings.Join(c.Redis.Addrs, " "); got != test.addrs || string(c.Redis.URL) != test.url || !c.Redis.Set {
			t.Errorf("%s: %s %s, want %s %s", test.name, got, string(c.Redis.URL), test.addrs, test.url)
		}
	}
}

func TestDatabaseURLTakesItsPasswordFromElsewhere(t *testing.T) {
	c := load(t, with(nil, "ERLMCP_DB_URL=postgres://erlmcp@db/erlmcp", "ERLMCP_DB_PASSWORD=pw"))
	if got := string(c.DB.URL); got != "postgres://erlmcp:pw@db/erlmcp" || !c.DB.Set {
		t.Error(got)
	}
	socket := load(t, with(nil, "ERLMCP_DB_HOST=/run/postgresql"))
	if got := string(socket.DB.URL); got != "postgres://erlmcp@/erlmcp?host=%2Frun%2Fpostgresql&port=5432&sslmode=prefer" {
		t.Error(got)
	}
}

func TestCertificatesComeAsTextOrPathAndRememberTheirFile(t *testing.T) {
	cert, key := testkit.CertificateFiles(t, t.TempDir())
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, with(nil, "TLS_ENABLED=true", "ERLMCP_TLS_CERT="+cert, "ERLMCP_TLS_KEY_FILE="+key, "ERLMCP_TLS_CA="+string(pem)))
	if c.TLS.Cert.File != cert || c.TLS.Key.File != key || c.TLS.CA.File != "" {
		t.Errorf("files %q %q %q", c.TLS.Cert.File, c.TLS.Key.File, c.TLS.CA.File)
	}
	if !strings.Contains(string(c.TLS.CA.PEM), "BEGIN CERTIFICATE") || !strings.Contains(string(c.TLS.Key.PEM), "PRIVATE KEY") {
		t.Error("PEM is missing")
	}
}

func TestFileIsSearchedUnlessNamed(t *testing.T) {
	src := source()
	src.Search = []string{"erlmcp.yaml", "/opt/erlmcp/etc/erlmcp.yaml"}
	src.ReadFile = func(path string) ([]byte, error) {
		if path == "/opt/erlmcp/etc/erlmcp.yaml" {
			return []byte("log: {level: warn}"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if c := load(t, src); c.Log.Level != "warn" || c.File != "/opt/erlmcp/etc/erlmcp.yaml" {
		t.Errorf("level %s of %q", c.Log.Level, c.File)
	}
	src.Environ = append(src.Environ, "ERLMCP_CONFIG=/etc/other.yaml")
	if _, err := config.Load(src); err == nil || !strings.HasPrefix(err.Error(), "ERLMCP_CONFIG: there is no file") {
		t.Errorf("a named file that is missing: %v", err)
	}
}

func TestLookupReadsOneSettingOfABrokenConfiguration(t *testing.T) {
	got, err := config.Lookup(with(nil, "HEALTH_PORT=9999", "ERLMCP_PORT=eighty"), "ports.health")
	if err != nil || got != "9999" {
		t.Errorf("%q, %v", got, err)
	}
}
