package deploy

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"erlmcp.dev/shared/testkit"
)

const observers = "../../compose/monitoring/"

func decode(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// monitored is compose's stack with the monitoring profile.
func monitored(t *testing.T) *types.Project {
	t.Helper()
	return project(t, []string{"docker-compose.yml", "docker-compose.override.yml"}, "", nil, "monitoring")
}

// mounted is where a path of a container is in the repository.
func mounted(t *testing.T, s types.ServiceConfig, target string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, is := strings.CutPrefix(target, v.Target); is && v.Type == types.VolumeTypeBind {
			return v.Source + rest
		}
	}
	t.Fatalf("%s: nothing is mounted at %s", s.Name, target)
	return ""
}

// Prometheus and Alertmanager take their configurations, by their own judgement, and the rules are found where compose
// mounts them.
func TestPrometheusAndAlertmanagerTakeTheirConfigurations(t *testing.T) {
	p := monitored(t)
	text, err := os.ReadFile(mounted(t, p.Services["prometheus"], "/etc/prometheus/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(t.TempDir(), "prometheus.yml")
	found := strings.ReplaceAll(string(text), "/etc/prometheus/rules", mounted(t, p.Services["prometheus"], "/etc/prometheus/rules"))
	if err := os.WriteFile(here, []byte(found), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ pkg, program, command, file, want string }{
		{"prometheus", "promtool", "config", here, "SUCCESS: 1 rule files found"},
		{"prometheus-alertmanager", "amtool", "check-config", mounted(t, p.Services["alertmanager"], "/etc/alertmanager/alertmanager.yml"), "SUCCESS"},
	} {
		args := []string{check.command, check.file}
		if check.program == "promtool" {
			args = append([]string{"check"}, args...)
		}
		out, err := exec.CommandContext(t.Context(), testkit.Program(t, check.program, check.pkg), args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), check.want) {
			t.Errorf("%s %q: %v\n%s", check.program, args, err, out)
		}
	}
}

// Prometheus scrapes every role and tells Alertmanager, by the names and ports that compose's services have.
func TestPrometheusNamesWhatComposeRuns(t *testing.T) {
	p := monitored(t)
	type targets struct {
		Targets []string
	}
	var config struct {
		Alerting struct {
			Alertmanagers []struct {
				Static []targets `yaml:"static_configs"`
			}
		}
		Scrape []struct {
			Job    string    `yaml:"job_name"`
			Static []targets `yaml:"static_configs"`
			DNS    []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	decode(t, observers+"prometheus.yml", &config)
	var named []targets
	for _, a := range config.Alerting.Alertmanagers {
		named = append(named, a.Static...)
	}
	scraped := map[string]int{}
	for _, job := range config.Scrape {
		named = append(named, job.Static...)
		for _, dns := range job.DNS {
			for _, name := range dns.Names {
				scraped[name] = dns.Port
			}
		}
	}
	for _, role := range roles {
		if scraped[role] != 9100 {
			t.Errorf("%s is scraped at port %d", role, scraped[role])
		}
	}
	if len(scraped) != len(roles) || len(named) < 3 {
		t.Errorf("scraped are %v, named %v", scraped, named)
	}
	for _, all := range named {
		for _, target := range all.Targets {
			host, _, err := net.SplitHostPort(target)
			if _, is := p.Services[host]; err != nil || !is && host != "localhost" {
				t.Errorf("%s is nobody of compose's: %v", target, err)
			}
		}
	}
}

// The collector's pipelines are made of parts that it has, each part is used, and its own metrics are where Prometheus
// looks for them.
func TestTheCollectorsPipelinesAreWhole(t *testing.T) {
	var config struct {
		Receivers, Processors, Exporters, Extensions, Connectors map[string]yaml.Node
		Service                                                  struct {
			Extensions []string
			Telemetry  struct {
				Metrics struct {
					Readers []struct {
						Pull struct {
							Exporter struct {
								Prometheus struct {
									Host string
									Port int
								}
							}
						}
					}
				}
			}
			Pipelines map[string]struct{ Receivers, Processors, Exporters []string }
		}
	}
	decode(t, observers+"otel-collector.yml", &config)
	if len(config.Service.Pipelines) < 2 {
		t.Errorf("pipelines are %v", config.Service.Pipelines)
	}
	used := map[string]bool{}
	check := func(pipeline, kind string, names []string, has ...map[string]yaml.Node) {
		if len(names) == 0 && kind != "processor" {
			t.Errorf("%s has no %s", pipeline, kind)
		}
		for _, name := range names {
			used[kind+name] = true
			if !slices.ContainsFunc(has, func(m map[string]yaml.Node) bool { _, is := m[name]; return is }) {
				t.Errorf("%s: there is no %s %s", pipeline, kind, name)
			}
		}
	}
	for name, pipeline := range config.Service.Pipelines {
		if kind, _, _ := strings.Cut(name, "/"); !slices.Contains([]string{"traces", "metrics", "logs", "profiles"}, kind) {
			t.Errorf("%s carries nothing", name)
		}
		check(name, "receiver", pipeline.Receivers, config.Receivers, config.Connectors)
		check(name, "processor", pipeline.Processors, config.Processors)
		check(name, "exporter", pipeline.Exporters, config.Exporters, config.Connectors)
		if len(pipeline.Processors) > 0 && pipeline.Processors[0] != "memory_limiter" {
			t.Errorf("%s: what bounds memory comes first, not %q", name, pipeline.Processors)
		}
	}
	for kind, parts := range map[string]map[string]yaml.Node{"receiver": config.Receivers, "processor": config.Processors, "exporter": config.Exporters} {
		for name := range parts {
			if !used[kind+name] {
				t.Errorf("no pipeline uses the %s %s", kind, name)
			}
		}
	}
	text, err := os.ReadFile(observers + "prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	readers := config.Service.Telemetry.Metrics.Readers
	if len(readers) != 1 || readers[0].Pull.Exporter.Prometheus.Port != 8888 || !strings.Contains(string(text), `"otel-collector:8888"`) {
		t.Errorf("the collector's own metrics are at %+v, and Prometheus asks elsewhere", readers)
	}
}

// Grafana is given its source and its dashboards: the dashboards ask the source, and are where it looks for them.
func TestGrafanaIsGivenItsSourceAndDashboards(t *testing.T) {
	p := monitored(t)
	var sources struct {
		Datasources []struct{ UID, Type, URL string }
	}
	decode(t, filepath.Join(mounted(t, p.Services["grafana"], "/etc/grafana/provisioning/datasources"), "prometheus.yml"), &sources)
	if len(sources.Datasources) != 1 {
		t.Fatalf("sources are %+v", sources)
	}
	source := sources.Datasources[0]
	address, err := url.Parse(source.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, is := p.Services[address.Hostname()]; !is || address.Port() != "9090" {
		t.Errorf("the source is at %s", source.URL)
	}
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	decode(t, filepath.Join(mounted(t, p.Services["grafana"], "/etc/grafana/provisioning/dashboards"), "erlmcp.yml"), &providers)
	if len(providers.Providers) != 1 {
		t.Fatalf("providers are %+v", providers)
	}
	files, err := filepath.Glob(filepath.Join(mounted(t, p.Services["grafana"], providers.Providers[0].Options.Path), "*.json"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title      string
				Datasource struct{ UID, Type string }
			}
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			if panel.Datasource.UID != source.UID || panel.Datasource.Type != source.Type {
				t.Errorf("%s: %q asks %+v", filepath.Base(file), panel.Title, panel.Datasource)
			}
		}
	}
}
