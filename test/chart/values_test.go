//go:build helm

package chart

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestValuesThatWouldBeIgnoredAreRefused(t *testing.T) {
	for name, args := range map[string][]string{
		"additional properties 'replicaCount'":                    set("gateway.replicaCount=5"),
		"additional properties 'resources'":                       set("gateway.resources.limits.memory=2Gi"),
		"/session/enabled":                                        set("session.enabled=false"),
		"erlmcp.erlang.cookie and adminKey would be ignored":      set("erlmcp.erlang.existingSecret=own", "erlmcp.erlang.cookie="+cookie),
		"put them into own as erlang-cookie and admin-key":        set("erlmcp.erlang.existingSecret=own", "adminKey=erlmcp_01234567_0123456789abcdef0123456789abcdef"),
		"database.host and database.password would be ignored":    set("database.existingSecret=own", "database.password=secret"),
		"database.host would be ignored while postgres.enabled":   set("database.host=db.example.com"),
		"externalRedis.host would be ignored while redis.enabled": set("externalRedis.host=redis.example.com"),
		"/podDisruptionBudget/minAvailable":                       set("podDisruptionBudget.minAvailable=half"),
	} {
		if _, errs, err := helm(t, nil, args...); err == nil || !strings.Contains(errs, name) {
			t.Errorf("%q: %v, and not %q: %s", args, err, name, errs)
		}
	}
}

func TestABudgetThatWouldStopEveryDrainLetsOneGo(t *testing.T) {
	for _, c := range []struct {
		stay    any
		go1     any
		replica string
		args    []string
	}{
		{2, nil, "three of three", nil},
		{nil, 1, "two of two", set("erlmcp.replicaCount=2")},
		{nil, 1, "two of one", set("erlmcp.replicaCount=1")},
		{nil, 1, "all of three", set("podDisruptionBudget.minAvailable=100%")},
		{"60%", nil, "two thirds", set("podDisruptionBudget.minAvailable=60%")},
		{nil, 1, "two of as few as the autoscaler leaves", set("autoscaling.enabled=true", "autoscaling.minReplicas=2", "erlmcp.replicaCount=5")},
	} {
		budget := render(t, c.args...).get(t, "PodDisruptionBudget", "erlmcp-cluster").Spec
		if budget.MinAvailable != c.stay || budget.MaxUnavailable != c.go1 || budget.UnhealthyPods != "AlwaysAllow" {
			t.Errorf("%s: %v stay, %v go, unhealthy ones %q", c.replica, budget.MinAvailable, budget.MaxUnavailable, budget.UnhealthyPods)
		}
	}
}

// A pod that is not replaced goes on with what the values no longer say.
func TestPodsAreReplacedWhenASecretOfTheValuesChanges(t *testing.T) {
	sum := func(args ...string) string {
		annotations := render(t, append(set("erlmcp.erlang.cookie="+cookie, "database.password=first"), args...)...).get(t, "StatefulSet", "erlmcp-registry").Spec.Template.Metadata.Annotations
		return annotations["checksum/config"] + " " + annotations["checksum/secrets"]
	}
	before := sum()
	if before != sum() {
		t.Error("pods are replaced though nothing changed")
	}
	for _, change := range []string{"erlmcp.erlang.cookie=" + cookie + "0", "adminKey=erlmcp_01234567_0123456789abcdef0123456789abcdef", "database.password=second", "database.user=other", "logging.level=debug"} {
		if sum("--set", change) == before {
			t.Errorf("%s replaces no pod", change)
		}
	}
}

// The job of an upgrade has the new values: what the release before left in the cluster may be wrong by them.
func TestTheMigrationRunsWithTheNewValues(t *testing.T) {
	all := render(t, set("postgres.enabled=false", "database.host=db.example.com", "database.port=5433", "database.password=new", "env.ERLMCP_X=a$(b)",
		"erlmcp.nodeSelector.pool=erlmcp", "erlmcp.tolerations[0].key=pool", "erlmcp.priorityClassName=high")...)
	job := all.get(t, "Job", "erlmcp-migrate")
	p := job.pod()
	if p.NodeSelector["pool"] != "erlmcp" || len(p.Tolerations) != 1 || p.Priority != "high" {
		t.Errorf("it is scheduled otherwise than erlmcp: %v %v %q", p.NodeSelector, p.Tolerations, p.Priority)
	}
	if job.Spec.TTL == 0 {
		t.Error("one that failed stays for ever")
	}
	if env := all.environment(t, p.Containers[0]); env["ERLMCP_DB_PORT"] != "5433" || env["ERLMCP_X"] != "a$$(b)" {
		t.Errorf("its variables are %v", env)
	}
	for _, use := range references(p) {
		kind, name, _ := strings.Cut(use.object, " ")
		if one := all.get(t, kind, name); one.Metadata.Annotations["helm.sh/hook"] != "pre-upgrade" {
			t.Errorf("it needs %s of the release before", use.object)
		}
	}
	if secret := all.get(t, "Secret", "erlmcp-migrate").Data; secret["db-host"] != "db.example.com" || secret["db-password"] != "new" {
		t.Errorf("its Secret holds %v", secret)
	}
	if all := render(t, set("migrations.hook=false", "database.password=new")...); all.has("Job", "erlmcp-migrate") || all.has("Secret", "erlmcp-migrate") {
		t.Error("it cannot be left out")
	}
}

func TestADatabasesCertificateIsVerifiedByAnAuthorityOfItsOwn(t *testing.T) {
	all := render(t, set("postgres.enabled=false", "database.existingSecret=db", "database.sslmode=verify-full", "database.caSecret=authority")...)
	for _, name := range []string{"StatefulSet erlmcp-registry", "StatefulSet erlmcp-metrics", "StatefulSet erlmcp-session", "Job erlmcp-migrate"} {
		kind, name, _ := strings.Cut(name, " ")
		one := all.get(t, kind, name)
		c := one.pod().Containers[0]
		file := all.environment(t, c)["PGSSLROOTCERT"]
		found := false
		for _, mount := range c.Mounts {
			for _, volume := range one.pod().Volumes {
				for _, source := range volume.Projected.Sources {
					if volume.Name == mount.Name && source.Secret.Name == "authority" && source.Secret.Items[0].Key == "ca.crt" {
						found = file == mount.Path+"/"+source.Secret.Items[0].Path
					}
				}
			}
		}
		if !found {
			t.Errorf("%s looks for the authority at %q, where it is not", one, file)
		}
	}
}

func TestThePasswordOfAVolumeStaysWithIt(t *testing.T) {
	for _, c := range []struct {
		kept bool
		args []string
	}{
		{true, nil},
		{false, set("postgres.persistence.enabled=false")},
		{false, set("postgres.persistence.whenDeleted=Delete")},
		{false, set("postgres.enabled=false", "database.host=db.example.com", "database.password=secret")},
	} {
		all := render(t, c.args...)
		if kept := all.get(t, "Secret", "erlmcp-db").Metadata.Annotations["helm.sh/resource-policy"] == "keep"; kept != c.kept {
			t.Errorf("%q: kept is %v", c.args, kept)
		}
	}
	if claims := render(t, set("postgres.persistence.whenDeleted=Delete")...).get(t, "StatefulSet", "erlmcp-postgres").Spec.ClaimRetention; claims["whenDeleted"] != "Delete" {
		t.Errorf("the volume stays: %v", claims)
	}
}

// Tools that render without a cluster render the same each time, where no secret is left to be made.
func TestNothingIsMadeAtRandomWithSecretsOfOnesOwn(t *testing.T) {
	for _, args := range [][]string{
		set("erlmcp.erlang.existingSecret=own", "database.existingSecret=own-db", "externalRedis.existingSecret=own-redis"),
		values("us-east"),
	} {
		if first := text(t, args...); first != text(t, args...) {
			t.Errorf("%q: two renderings differ", args)
		}
	}
}

func TestRegionsShareASecretThatNeitherMakes(t *testing.T) {
	for _, region := range []string{"us-east", "us-west"} {
		all := render(t, values(region)...)
		if made := all.kind("Secret"); len(made) != 0 {
			t.Errorf("%s makes %v", region, made)
		}
	}
}

func TestNetworkPoliciesNameWhatIsUsed(t *testing.T) {
	for endpoint, want := range map[string]int{"": 4317, "http://collector:4318": 4318, "https://otlp.example.com:443/v1": 443, "http://collector": 4317} {
		var inside struct {
			Egress []struct {
				To    []map[string]any `yaml:"to"`
				Ports []struct {
					Port any `yaml:"port"`
				} `yaml:"ports"`
			} `yaml:"egress"`
		}
		decode(t, render(t, set("otel.endpoint="+endpoint)...).get(t, "NetworkPolicy", "erlmcp-inside"), &inside)
		found, dns := false, false
		for _, rule := range inside.Egress {
			for _, port := range rule.Ports {
				found = found || port.Port == want
				for _, to := range rule.To {
					block, _ := to["ipBlock"].(map[string]any)
					dns = dns || port.Port == 53 && block["cidr"] == "169.254.20.10/32"
				}
			}
		}
		if !found || !dns {
			t.Errorf("%q: the collector is %v, a node's DNS %v: %+v", endpoint, found, dns, inside)
		}
	}

	// The pod of helm test is let through, however little else is.
	all := render(t, set("networkPolicy.clients[0].podSelector.matchLabels.app=web", "networkPolicy.tools[0].to[0].podSelector.matchLabels.app=tool")...)
	for _, name := range []string{"erlmcp-clients", "erlmcp-tools"} {
		if policy := all.get(t, "NetworkPolicy", name); !strings.Contains(policy.raw, "app: erlmcp-test") {
			t.Errorf("helm test is stopped by\n%s", policy.raw)
		}
	}
	if all := render(t, set("networkPolicy.enabled=false")...); len(all.kind("NetworkPolicy")) != 0 {
		t.Errorf("policies though there should be none: %v", all.kind("NetworkPolicy"))
	}
}

func decode(t *testing.T, one object, into any) {
	t.Helper()
	var whole struct {
		Spec yaml.Node `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(one.raw), &whole); err != nil {
		t.Fatal(err)
	}
	if err := whole.Spec.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestServicesSayWhatTheirPortsSpeak(t *testing.T) {
	for distribution, want := range map[string]string{"inet_tls": "https", "inet6_tls": "https", "inet_tcp": "kubernetes.io/h2c"} {
		for _, port := range render(t, set("erlmcp.erlang.distribution="+distribution)...).get(t, "Service", "erlmcp").Spec.Ports {
			if port.Name == "grpc" && port.AppProtocol != want {
				t.Errorf("%s: %q", distribution, port.AppProtocol)
			}
		}
	}
}

func TestWhatNeedsAnOperatorIsThereWhereTheOperatorIs(t *testing.T) {
	all := render(t, "--api-versions", "monitoring.coreos.com/v1")
	all.get(t, "ServiceMonitor", "erlmcp")
	if rules := all.kind("PrometheusRule"); len(rules) == 0 || !strings.Contains(rules[0].raw, "ErlmcpServiceDown") {
		t.Errorf("rules: %v", rules)
	}
	without := render(t)
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule", "HTTPRoute"} {
		if len(without.kind(kind)) != 0 {
			t.Errorf("%s though nobody knows it", kind)
		}
	}
	if route := render(t, set("gatewayAPI.enabled=true", "gatewayAPI.parentRefs[0].name=edge")...).get(t, "HTTPRoute", "erlmcp"); !strings.Contains(route.raw, "name: edge") {
		t.Errorf("the route has no parent:\n%s", route.raw)
	}
}
