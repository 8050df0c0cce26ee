package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

var (
	roles      = []string{"erlmcp", "erlmcp-session", "erlmcp-registry", "erlmcp-metrics"}
	stack      = append([]string{"balancer", "erlmcp-secrets", "postgres", "redis"}, roles...)
	monitoring = []string{"alertmanager", "grafana", "otel-collector", "prometheus"}
	lanes      = map[string]string{"erlmcp-build": "compile", "erlmcp-unit": "eunit", "erlmcp-ct": "ct", "erlmcp-check": "check", "erlmcp-bench": "benchmark"}
)

// project reads compose files as docker compose does: schema, includes, variables, references, profiles. env is the
// environment, beside the file of --env-file where there is one.
func project(t *testing.T, files []string, envFile string, env []string, profiles ...string) *types.Project {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	options := []cli.ProjectOptionsFn{cli.WithWorkingDirectory(root), cli.WithEnv(env), cli.WithName("erlmcp"), cli.WithProfiles(profiles)}
	if envFile != "" {
		options = append(options, cli.WithEnvFiles(filepath.Join(root, envFile)), cli.WithDotEnv)
	}
	var paths []string
	for _, file := range files {
		paths = append(paths, filepath.Join(root, file))
	}
	o, err := cli.NewProjectOptions(paths, options...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("%q: %v", files, err)
	}
	return p
}

func services(t *testing.T, p *types.Project, want ...string) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(p.Services))); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

// pinned fails for images whose version is left open.
func pinned(t *testing.T, p *types.Project) {
	t.Helper()
	for name, s := range p.Services {
		image := s.Image[strings.LastIndex(s.Image, "/")+1:]
		if _, tag, _ := strings.Cut(image, ":"); tag == "" || tag == "latest" || tag == "main" {
			t.Errorf("%s: %s is any version", name, s.Image)
		}
	}
}

// hard fails for a role that could write to its root, has capabilities, or does not say whether it is well.
func hard(t *testing.T, p *types.Project) {
	t.Helper()
	for _, role := range roles {
		s := p.Services[role]
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || s.Privileged || s.HealthCheck == nil || s.StopGracePeriod == nil {
			t.Errorf("%s: read-only %v, drops %q, privileged %v, health check %v, grace %v", role, s.ReadOnly, s.CapDrop, s.Privileged, s.HealthCheck, s.StopGracePeriod)
		}
	}
}

// scalable fails for what would stand in the way of a second replica.
func scalable(t *testing.T, p *types.Project) {
	t.Helper()
	for _, role := range roles {
		s := p.Services[role]
		if s.ContainerName != "" || s.Hostname != "" || len(s.Ports) > 0 {
			t.Errorf("%s can't be scaled: container %q, host %q, ports %v", role, s.ContainerName, s.Hostname, s.Ports)
		}
		if name := s.Environment["ERLMCP_NODE_NAME"]; name == nil || *name != "erlmcp@" {
			t.Errorf("%s: replicas of one name", role)
		}
	}
}

func TestComposeFilesAsTheyComeAreWholeAndScalable(t *testing.T) {
	files := []string{"docker-compose.yml", "docker-compose.override.yml"}
	p := project(t, files, "", nil)
	services(t, p, stack...)
	pinned(t, p)
	hard(t, p)
	scalable(t, p)
	if len(p.Services["balancer"].Ports) != 6 {
		t.Errorf("the balancer has the ports %v", p.Services["balancer"].Ports)
	}
	// Nothing that compose is given is a part of the repository that is not there.
	for name, s := range project(t, files, "", nil, "*").Services {
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, "Dockerfile")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Each lane of the deployment guide runs its own gate on the sources, and fails when the gate does.
func TestComposeLanesRunGatesThatCanFail(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	p := project(t, []string{"docker-compose.yml", "docker-compose.override.yml"}, "", nil, "quality")
	services(t, p, append(slices.Collect(maps.Keys(lanes)), stack...)...)
	pinned(t, p)
	for lane, gate := range lanes {
		if s := p.Services[lane]; !slices.Equal(s.Command, []string{"make", gate}) || len(s.Entrypoint) > 0 || s.Build == nil || s.Build.Target != "toolchain" {
			t.Errorf("%s runs %q %q", lane, s.Entrypoint, s.Command)
		}
		rule := regexp.MustCompile(`(?m)^` + gate + `:(.*)\n((?:\t.*\n)*)`).FindStringSubmatch(string(makefile))
		if rule == nil {
			t.Errorf("%s: the Makefile has no %s", lane, gate)
			continue
		}
		before, _, _ := strings.Cut(rule[1], "##")
		if strings.TrimSpace(before)+rule[2] == "" {
			t.Errorf("make %s does nothing", gate)
		}
		if regexp.MustCompile(`(?m)^\t@?-|\|\|\s*(true|:)|;\s*true\b`).MatchString(rule[2]) {
			t.Errorf("make %s can't fail:\n%s", gate, rule[2])
		}
	}
}

func TestComposeInProductionIsWholeWithTheTemplateAlone(t *testing.T) {
	template, err := os.ReadFile("../../.env.prod.template")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^COMPOSE_FILE=(\S+)$`).FindStringSubmatch(string(template))
	if m == nil {
		t.Fatal("the template names no files")
	}
	p := project(t, strings.Split(m[1], ":"), ".env.prod.template", nil)
	services(t, p, stack...)
	pinned(t, p)
	hard(t, p)
	scalable(t, p)
	for _, role := range roles {
		s := p.Services[role]
		if s.Restart != "always" || s.Deploy == nil || s.Deploy.Replicas == nil || *s.Deploy.Replicas < 2 || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 || s.Logging == nil {
			t.Errorf("%s: restart %q, deploy %+v, logging %v", role, s.Restart, s.Deploy, s.Logging)
		}
	}
	// Only the cookie is asked for. A file that is missing is an error: an engine would make a directory of it.
	var given []string
	for _, v := range project(t, strings.Split(m[1], ":"), "", nil).Services["erlmcp-secrets"].Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		given = append(given, v.Target)
		if v.Bind == nil || v.Bind.CreateHostPath {
			t.Errorf("%s: a missing %s would become a directory", v.Target, v.Source)
		}
		if (v.Source == "/dev/null") != (v.Target != "/given/erlang.cookie") {
			t.Errorf("%s comes from %s", v.Target, v.Source)
		}
	}
	if diff := cmp.Diff([]string{"/given/db_password", "/given/erlang.cookie", "/given/jwt_secret", "/given/redis_password"}, slices.Sorted(slices.Values(given))); diff != "" {
		t.Errorf("secrets that can be given (-want +got):\n%s", diff)
	}
	services(t, project(t, strings.Split(m[1], ":"), ".env.prod.template", nil, "monitoring"), append(slices.Clone(stack), monitoring...)...)
}

// What compose files and the template set is read by somebody: the program, compose itself, or an image.
func TestComposeSetsWhatIsRead(t *testing.T) {
	settings, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	p := project(t, []string{"docker-compose.yml", "docker-compose.override.yml"}, "", nil)
	for _, role := range roles {
		for name := range p.Services[role].Environment {
			if !regexp.MustCompile(`\b` + name + `\b`).Match(settings) {
				t.Errorf("%s: nobody knows %s", role, name)
			}
		}
	}
	var read strings.Builder
	files, err := filepath.Glob("../../compose/*.yml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read.Write(text)
	}
	template, err := os.ReadFile("../../.env.prod.template")
	if err != nil {
		t.Fatal(err)
	}
	set := regexp.MustCompile(`(?m)^(?:# )?([A-Z][A-Z_]+)=`).FindAllStringSubmatch(string(template), -1)
	if len(set) < 25 {
		t.Errorf("the template sets %q", set)
	}
	for _, m := range set {
		if !strings.HasPrefix(m[1], "COMPOSE_") && !strings.Contains(read.String(), "${"+m[1]+":") {
			t.Errorf("the template sets %s, which no compose file reads", m[1])
		}
	}
}

func TestTheSwarmStackSpreadsStartsFirstAndKnowsItsSecrets(t *testing.T) {
	p := project(t, []string{"docker-compose.yml", "docker-compose.swarm.yml"}, "", nil)
	services(t, p, slices.DeleteFunc(slices.Clone(stack), func(name string) bool { return name == "erlmcp-secrets" })...)
	pinned(t, p)
	hard(t, p)
	script, err := os.ReadFile("../../docker-swarm/deploy-swarm.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"erlmcp-erlang-cookie", "erlmcp-db-password", "erlmcp-jwt-secret", "erlmcp-tls-cert", "erlmcp-tls-key"} {
		if s, is := p.Secrets[name]; !is || !bool(s.External) {
			t.Errorf("the secret %s is not the swarm's", name)
		}
		if !strings.Contains(string(script), strings.TrimPrefix(name, "erlmcp-")) {
			t.Errorf("deploy-swarm.sh does not make the secret %s", name)
		}
	}
	if n := p.Networks["erlmcp-overlay"]; !bool(n.External) || n.Name != "erlmcp-overlay" {
		t.Errorf("the network is %+v", n)
	}
	for _, role := range roles {
		s := p.Services[role]
		if s.ContainerName != "" || s.Deploy == nil || s.Deploy.UpdateConfig == nil || s.Deploy.UpdateConfig.Order != "start-first" || s.Deploy.UpdateConfig.FailureAction != "rollback" ||
			s.Deploy.Placement.MaxReplicas != 1 || len(s.Deploy.Placement.Preferences) != 1 || s.Deploy.Placement.Preferences[0].Spread != "node.labels.zone" {
			t.Errorf("%s: %+v", role, s.Deploy)
		}
		if _, is := s.Networks["erlmcp-overlay"]; !is || len(s.Secrets) < 3 {
			t.Errorf("%s: networks %v, secrets %v", role, s.Networks, s.Secrets)
		}
	}
	if gateways := p.Services["erlmcp"]; *gateways.Deploy.Replicas != 5 || len(gateways.Ports) != 6 {
		t.Errorf("%d gateways publish %v", *gateways.Deploy.Replicas, gateways.Ports)
	}
}
