//go:build helm

package chart

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rendered are the renderings that there are already, for all tests to look at.
var rendered = map[string]objects{}

// everyRendering runs check over what operators get: the chart with each set of values, and the plain manifests with
// the stores and Secrets that they expect.
func everyRendering(t *testing.T, check func(t *testing.T, r rendering, all objects)) {
	for _, r := range renderings {
		t.Run(r.name, func(t *testing.T) {
			if rendered[r.name] == nil {
				rendered[r.name] = render(t, r.args...)
			}
			check(t, r, rendered[r.name])
		})
	}
	t.Run("manifests", func(t *testing.T) {
		files, err := filepath.Glob("../../deploy/k8s/*.yaml")
		if err != nil || len(files) < 10 {
			t.Fatalf("%q, %v", files, err)
		}
		var all strings.Builder
		for _, file := range files {
			if filepath.Base(file) == "values.yaml" {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString("---\n" + string(content))
		}
		check(t, rendering{name: "manifests", secrets: regional}, parse(t, all.String()))
	})
}

func TestEveryServiceLeadsToThePortsOfOneWorkload(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, service := range all.kind("Service") {
			behind := all.selected(service)
			if len(behind) != 1 {
				t.Errorf("%s selects the pods of %v", service, behind)
				continue
			}
			for _, port := range service.Spec.Ports {
				if !hasPort(behind[0].pod(), port.TargetPort) {
					t.Errorf("%s: %s has no port %q", service, behind[0], port.TargetPort)
				}
			}
		}
	})
}

func TestNoWorkloadSelectsThePodsOfAnother(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, workload := range all.kind("StatefulSet") {
			if own := all.selected(workload); len(own) != 1 || own[0].Metadata.Name != workload.Metadata.Name {
				t.Errorf("%s selects the pods of %v", workload, own)
			}
		}
	})
}

func TestProbesAskPortsThatAreThere(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, workload := range all.kind("StatefulSet") {
			for _, c := range workload.pod().Containers {
				if c.Startup == nil || c.Readiness == nil {
					t.Errorf("%s: nothing tells when %s is started and ready", workload, c.Name)
				}
				for _, p := range []*probe{c.Startup, c.Liveness, c.Readiness} {
					if p != nil && p.HTTP.Port != "" && !hasPort(workload.pod(), p.HTTP.Port) {
						t.Errorf("%s: a probe asks port %q", workload, p.HTTP.Port)
					}
				}
			}
		}
	})
}

func hasPort(p *pod, name string) bool {
	return slices.ContainsFunc(p.Containers, func(c container) bool {
		return slices.ContainsFunc(c.Ports, func(port port) bool { return port.Name == name && port.Container > 0 })
	})
}

func TestOnlyTheAutoscalerCountsWhatItScales(t *testing.T) {
	scaled := 0
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, scaler := range all.kind("HorizontalPodAutoscaler") {
			scaled++
			target := all.get(t, scaler.Spec.ScaleTargetRef.Kind, scaler.Spec.ScaleTargetRef.Name)
			if target.Spec.Replicas != nil {
				t.Errorf("%s is set back to %d replicas by each apply", target, *target.Spec.Replicas)
			}
			for _, c := range target.pod().Containers {
				for _, metric := range scaler.Spec.Metrics {
					if c.Resources.Requests[metric.Resource.Name] == "" {
						t.Errorf("%s scales by a part of the %s that %s requests, which is none", scaler, metric.Resource.Name, c.Name)
					}
				}
			}
		}
		for _, workload := range all.kind("StatefulSet") {
			if workload.Spec.Replicas == nil && !slices.ContainsFunc(all.kind("HorizontalPodAutoscaler"), func(scaler object) bool {
				return scaler.Spec.ScaleTargetRef.Name == workload.Metadata.Name
			}) {
				t.Errorf("nothing says how many of %s there are", workload)
			}
		}
	})
	if scaled < 4 {
		t.Errorf("only %d renderings have an autoscaler", scaled)
	}
}

func TestBudgetsHoldOneWorkloadAndLetAPodGo(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, budget := range all.kind("PodDisruptionBudget") {
			behind := all.selected(budget)
			if len(behind) != 1 {
				t.Errorf("%s selects the pods of %v", budget, behind)
				continue
			}
			least := 0
			if replicas := behind[0].Spec.Replicas; replicas != nil {
				least = *replicas
			}
			for _, scaler := range all.kind("HorizontalPodAutoscaler") {
				if scaler.Spec.ScaleTargetRef.Name == behind[0].Metadata.Name {
					least = scaler.Spec.MinReplicas
				}
			}
			if stay, counted := budget.Spec.MinAvailable.(int); counted && stay >= least {
				t.Errorf("%s: %d of %d pods must stay, so no node is ever drained", budget, stay, least)
			} else if !counted && budget.Spec.MaxUnavailable != 1 {
				t.Errorf("%s: %v stay, %v go", budget, budget.Spec.MinAvailable, budget.Spec.MaxUnavailable)
			}
		}
	})
}

func TestTheTimesOfAPodsEndAddUp(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, workload := range all.kind("StatefulSet") {
			if workload.podLabels()["app"] != "erlmcp" {
				continue
			}
			c := workload.pod().Containers[0]
			drain, err := time.ParseDuration(all.environment(t, c)["ERLMCP_DRAIN_TIME"])
			if err != nil {
				t.Errorf("%s: %v", workload, err)
			}
			stop := c.Lifecycle.PreStop.Exec.Command
			before, err := strconv.Atoi(stop[len(stop)-1])
			if err != nil {
				t.Errorf("%s: %v", workload, err)
			}
			if grace := time.Duration(*workload.pod().Grace) * time.Second; grace < time.Duration(before)*time.Second+drain {
				t.Errorf("%s is killed after %s, while it may take %d s and %s", workload, grace, before, drain)
			}
		}
	})
}

func TestWhatPodsReferToIsThere(t *testing.T) {
	everyRendering(t, func(t *testing.T, r rendering, all objects) {
		there := map[string]map[string]bool{}
		add := func(kind, name string, keys ...string) {
			there[kind+" "+name] = map[string]bool{}
			for _, key := range keys {
				there[kind+" "+name][key] = true
			}
		}
		for name, keys := range r.secrets {
			add("Secret", name, keys...)
		}
		for _, one := range append(all.kind("Secret"), all.kind("ConfigMap")...) {
			if there[one.String()] != nil {
				t.Errorf("%s is the operator's, and made anew", one)
			}
			add(one.Kind, one.Metadata.Name, slices.Collect(maps.Keys(one.Data))...)
		}
		for _, one := range all {
			if one.pod() == nil {
				continue
			}
			for _, use := range references(one.pod()) {
				if use.optional {
					continue
				}
				if found := there[use.object]; found == nil || (use.key != "" && !found[use.key]) {
					t.Errorf("%s needs %s %s", one, use.object, use.key)
				}
			}
			for _, c := range one.pod().Containers {
				for _, mount := range c.Mounts {
					named := func(v volume) bool { return v.Name == mount.Name }
					if !slices.ContainsFunc(one.pod().Volumes, named) && (len(one.Spec.Claims) == 0 || one.Spec.Claims[0].Metadata.Name != mount.Name) {
						t.Errorf("%s mounts %s, which is no volume", one, mount.Name)
					}
				}
			}
		}
	})
}

// use is of a Secret or ConfigMap, or of a key of it.
type use struct {
	object, key string
	optional    bool
}

func references(p *pod) (all []use) {
	add := func(kind string, r *reference) {
		if r == nil {
			return
		}
		object := fmt.Sprintf("%s %s", kind, r.Name+r.SecretName)
		all = append(all, use{object, r.Key, r.Optional})
		for _, item := range r.Items {
			all = append(all, use{object, item.Key, r.Optional})
		}
	}
	for _, c := range append(p.Init, p.Containers...) {
		for _, from := range c.EnvFrom {
			add("Secret", from.Secret)
			add("ConfigMap", from.ConfigMap)
		}
		for _, env := range c.Env {
			add("Secret", env.From.Secret)
			add("ConfigMap", env.From.ConfigMap)
		}
	}
	for _, v := range p.Volumes {
		add("Secret", v.Secret)
		add("ConfigMap", v.ConfigMap)
		for _, source := range v.Projected.Sources {
			add("Secret", source.Secret)
			add("ConfigMap", source.ConfigMap)
		}
	}
	return all
}

func TestNoPodIsMoreThanItMust(t *testing.T) {
	everyRendering(t, func(t *testing.T, _ rendering, all objects) {
		for _, one := range all {
			p := one.pod()
			if p == nil {
				continue
			}
			if !p.Security.NonRoot || p.Security.User == 0 || p.Security.Seccomp.Type != "RuntimeDefault" || p.Token == nil || *p.Token {
				t.Errorf("%s: %+v, token %v", one, p.Security, p.Token)
			}
			for _, c := range append(p.Init, p.Containers...) {
				s := c.Security
				if s.Escalation == nil || *s.Escalation || !s.ReadOnly || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
					t.Errorf("%s, %s: %+v", one, c.Name, s)
				}
				if r := c.Resources; r.Requests["cpu"] == "" || r.Requests["memory"] == "" || r.Limits["memory"] == "" {
					t.Errorf("%s, %s: %+v", one, c.Name, r)
				}
			}
		}
	})
}
