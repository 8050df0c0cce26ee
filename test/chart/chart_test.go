//go:build helm

package chart

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	directory = "../../deploy/helm/erlmcp"
	cookie    = "0123456789abcdef0123456789abcdef0123456789abcdef"
)

// rendering is a set of values, and what they expect to be there.
type rendering struct {
	name string
	args []string
	// secrets are those of the operator's, with their keys.
	secrets map[string][]string
}

var (
	database   = []string{"db-host", "db-name", "db-user", "db-password"}
	production = map[string][]string{"erlmcp-db": database, "erlmcp-redis": {"redis-password"}, "erlmcp-tls": {"tls.crt", "tls.key"}}
	regional   = with(production, "erlmcp-secrets", "erlang-cookie", "admin-key")
)

// What operators give. Each test of structure_test.go runs over all of them, and over the plain manifests.
var renderings = []rendering{
	{name: "default"},
	{name: "values-prod.yaml", args: append(values("prod"), "--set", "erlmcp.erlang.cookie="+cookie), secrets: production},
	{name: "values-us-east.yaml", args: values("us-east"), secrets: regional},
	{name: "values-us-west.yaml", args: values("us-west"), secrets: regional},
	{name: "small", args: set("erlmcp.replicaCount=1", "session.replicaCount=1", "postgres.persistence.enabled=false", "redis.persistence.enabled=false")},
	{name: "large", args: set("autoscaling.enabled=true", "storage.enabled=true", "erlmcp.preStopSeconds=20", "gateway.terminationGracePeriodSeconds=90")},
	{name: "outside", args: append(set("tls.clients=true", "ingress.enabled=true", "gatewayAPI.enabled=true", "gatewayAPI.parentRefs[0].name=edge", "networkPolicy.enabled=false",
		"servers[0].name=a", "servers[0].url=https://a.example.com/mcp", "otel.endpoint=http://collector:4317"), "--api-versions", "monitoring.coreos.com/v1"),
		secrets: map[string][]string{"erlmcp-tls": {"tls.crt", "tls.key"}}},
	{name: "secrets of one's own, bundled stores", args: set("erlmcp.erlang.existingSecret=own", "database.existingSecret=own-db", "externalRedis.existingSecret=own-redis"),
		secrets: map[string][]string{"own": {"erlang-cookie"}, "own-db": database[1:], "own-redis": {"redis-password"}}},
	{name: "a database elsewhere", args: set("postgres.enabled=false", "database.host=db.example.com", "database.password=secret", "database.sslmode=verify-full", "database.caSecret=authority"),
		secrets: map[string][]string{"authority": {"ca.crt"}}},
}

func values(name string) []string {
	return []string{"--values", filepath.Join(directory, "values-"+name+".yaml")}
}

func set(pairs ...string) (args []string) {
	for _, pair := range pairs {
		args = append(args, "--set", pair)
	}
	return args
}

func with(secrets map[string][]string, name string, keys ...string) map[string][]string {
	all := map[string][]string{name: keys}
	for name, keys := range secrets {
		all[name] = keys
	}
	return all
}

// helm is the command, for a release erlmcp that is rendered without a cluster unless env names one.
func helm(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program := os.Getenv("HELM")
	if program == "" {
		program = "helm"
	}
	c := exec.CommandContext(t.Context(), program, append([]string{"template", "erlmcp", directory, "--namespace", "erlmcp", "--kube-version", "1.32.0"}, args...)...)
	c.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	return out.String(), errs.String(), err
}

func text(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := helm(t, nil, args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, errs)
	}
	return out
}

func render(t *testing.T, args ...string) objects { return parse(t, text(t, args...)) }

// object is what tests look at of an object of Kubernetes.
type object struct {
	Kind     string `yaml:"kind"`
	Metadata meta   `yaml:"metadata"`
	Spec     spec   `yaml:"spec"`
	// Data is a ConfigMap's or, decoded, a Secret's.
	Data map[string]string `yaml:"data"`

	raw string
}

type meta struct {
	Name        string            `yaml:"name"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// spec is that of all kinds in one.
type spec struct {
	Replicas            *int   `yaml:"replicas"`
	PodManagementPolicy string `yaml:"podManagementPolicy"`
	// Selector is of labels at a Service, and with matchLabels elsewhere.
	Selector map[string]any `yaml:"selector"`
	Template struct {
		Metadata meta `yaml:"metadata"`
		Spec     pod  `yaml:"spec"`
	} `yaml:"template"`
	ClaimRetention map[string]string `yaml:"persistentVolumeClaimRetentionPolicy"`
	Claims         []struct {
		Metadata meta `yaml:"metadata"`
	} `yaml:"volumeClaimTemplates"`
	TTL            int    `yaml:"ttlSecondsAfterFinished"`
	ClusterIP      string `yaml:"clusterIP"`
	Ports          []port `yaml:"ports"`
	MinAvailable   any    `yaml:"minAvailable"`
	MaxUnavailable any    `yaml:"maxUnavailable"`
	UnhealthyPods  string `yaml:"unhealthyPodEvictionPolicy"`
	ScaleTargetRef struct {
		Kind string `yaml:"kind"`
		Name string `yaml:"name"`
	} `yaml:"scaleTargetRef"`
	MinReplicas int `yaml:"minReplicas"`
	Metrics     []struct {
		Resource struct {
			Name string `yaml:"name"`
		} `yaml:"resource"`
	} `yaml:"metrics"`
	Pod pod `yaml:",inline"`
}

type port struct {
	Name        string `yaml:"name"`
	Port        any    `yaml:"port"`
	TargetPort  string `yaml:"targetPort"`
	Container   int    `yaml:"containerPort"`
	AppProtocol string `yaml:"appProtocol"`
}

type pod struct {
	Token        *bool             `yaml:"automountServiceAccountToken"`
	Grace        *int              `yaml:"terminationGracePeriodSeconds"`
	NodeSelector map[string]string `yaml:"nodeSelector"`
	Tolerations  []any             `yaml:"tolerations"`
	Priority     string            `yaml:"priorityClassName"`
	Security     struct {
		NonRoot bool `yaml:"runAsNonRoot"`
		User    int  `yaml:"runAsUser"`
		Seccomp struct {
			Type string `yaml:"type"`
		} `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Init       []container `yaml:"initContainers"`
	Containers []container `yaml:"containers"`
	Volumes    []volume    `yaml:"volumes"`
}

type container struct {
	Name     string   `yaml:"name"`
	Args     []string `yaml:"args"`
	Security struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct {
			Drop []string `yaml:"drop"`
		} `yaml:"capabilities"`
	} `yaml:"securityContext"`
	Env []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
		From  struct {
			Secret    *reference `yaml:"secretKeyRef"`
			ConfigMap *reference `yaml:"configMapKeyRef"`
		} `yaml:"valueFrom"`
	} `yaml:"env"`
	EnvFrom []struct {
		Secret    *reference `yaml:"secretRef"`
		ConfigMap *reference `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Ports     []port `yaml:"ports"`
	Startup   *probe `yaml:"startupProbe"`
	Liveness  *probe `yaml:"livenessProbe"`
	Readiness *probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct {
			Exec struct {
				Command []string `yaml:"command"`
			} `yaml:"exec"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	Resources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	} `yaml:"resources"`
	Mounts []struct {
		Name string `yaml:"name"`
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTP struct {
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

// reference is one to a Secret or ConfigMap, or to a key or some keys of it.
type reference struct {
	Name       string `yaml:"name"`
	SecretName string `yaml:"secretName"`
	Key        string `yaml:"key"`
	Optional   bool   `yaml:"optional"`
	Items      []struct {
		Key  string `yaml:"key"`
		Path string `yaml:"path"`
	} `yaml:"items"`
}

type volume struct {
	Name      string     `yaml:"name"`
	Secret    *reference `yaml:"secret"`
	ConfigMap *reference `yaml:"configMap"`
	Projected struct {
		Sources []struct {
			Secret    *reference `yaml:"secret"`
			ConfigMap *reference `yaml:"configMap"`
		} `yaml:"sources"`
	} `yaml:"projected"`
}

type objects []object

func parse(t *testing.T, text string) (all objects) {
	t.Helper()
	for document := yaml.NewDecoder(strings.NewReader(text)); ; {
		var node yaml.Node
		if err := document.Decode(&node); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		raw, err := yaml.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		var one object
		if err := node.Decode(&one); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		if one.Kind == "" { // a template that left nothing
			continue
		}
		one.raw = string(raw)
		if one.Kind == "Secret" {
			for key, value := range one.Data {
				decoded, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					t.Fatalf("Secret %s: %s: %v", one.Metadata.Name, key, err)
				}
				one.Data[key] = string(decoded)
			}
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		t.Fatal("nothing was rendered")
	}
	return all
}

func (all objects) kind(kind string) (found objects) {
	for _, one := range all {
		if one.Kind == kind {
			found = append(found, one)
		}
	}
	return found
}

func (all objects) get(t *testing.T, kind, name string) object {
	t.Helper()
	for _, one := range all.kind(kind) {
		if one.Metadata.Name == name {
			return one
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return object{}
}

func (all objects) has(kind, name string) bool {
	return slices.ContainsFunc(all, func(one object) bool { return one.Kind == kind && one.Metadata.Name == name })
}

// pod is what an object starts; nil where it starts none.
func (one object) pod() *pod {
	switch one.Kind {
	case "StatefulSet", "Deployment", "DaemonSet", "Job":
		return &one.Spec.Template.Spec
	case "Pod":
		return &one.Spec.Pod
	}
	return nil
}

// podLabels are those of what an object starts.
func (one object) podLabels() map[string]string {
	if one.Kind == "Pod" {
		return one.Metadata.Labels
	}
	return one.Spec.Template.Metadata.Labels
}

func (one object) String() string { return one.Kind + " " + one.Metadata.Name }

// selected are the objects whose pods o selects.
func (all objects) selected(o object) (found objects) {
	selector := o.Spec.Selector
	if labels, nested := selector["matchLabels"].(map[string]any); nested {
		selector = labels
	}
	for _, one := range all {
		if one.pod() == nil || len(selector) == 0 {
			continue
		}
		matches := true
		for label, value := range selector {
			matches = matches && one.podLabels()[label] == value
		}
		if matches {
			found = append(found, one)
		}
	}
	return found
}

// environment is what a container's variables are, those of ConfigMaps too.
func (all objects) environment(t *testing.T, c container) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMap != nil {
			for name, value := range all.get(t, "ConfigMap", from.ConfigMap.Name).Data {
				env[name] = value
			}
		}
	}
	for _, one := range c.Env {
		env[one.Name] = one.Value
	}
	return env
}
