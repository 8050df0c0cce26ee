//go:build helm

package chart

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// inCluster renders as an upgrade does, with a cluster that holds what is given by its path.
func inCluster(t *testing.T, held map[string]any, args ...string) objects {
	t.Helper()
	held["/api/v1"] = map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{
		map[string]any{"name": "secrets", "kind": "Secret", "namespaced": true, "verbs": []string{"get"}},
	}}
	held["/apis/apps/v1"] = map[string]any{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": []any{
		map[string]any{"name": "statefulsets", "kind": "StatefulSet", "namespaced": true, "verbs": []string{"get"}},
	}}
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, there := held[r.URL.Path]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(cluster.Close)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
		users: [{name: c, user: {}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`, cluster.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := helm(t, []string{"KUBECONFIG=" + config}, append([]string{"--dry-run=server", "--is-upgrade"}, args...)...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, errs)
	}
	return parse(t, out)
}

func secret(name string, data map[string]string) (path string, held any) {
	encoded := map[string]string{}
	for key, value := range data {
		encoded[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	return "/api/v1/namespaces/erlmcp/secrets/" + name, map[string]any{
		"kind": "Secret", "apiVersion": "v1", "metadata": map[string]any{"name": name, "namespace": "erlmcp"}, "data": encoded,
	}
}

func statefulSet(name string, replicas int, policy string) (path string, held any) {
	return "/apis/apps/v1/namespaces/erlmcp/statefulsets/" + name, map[string]any{
		"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": map[string]any{"name": name, "namespace": "erlmcp"},
		"spec": map[string]any{"replicas": replicas, "podManagementPolicy": policy},
	}
}

func TestAnUpgradeKeepsTheSecretsThatWereMade(t *testing.T) {
	held := map[string]any{}
	want := map[string]map[string]string{
		"erlmcp-secrets": {"erlang-cookie": "the cookie", "admin-key": "the key"},
		"erlmcp-db":      {"db-password": "the database's"},
		"erlmcp-redis":   {"redis-password": "the store's"},
	}
	for name, data := range want {
		path, one := secret(name, data)
		held[path] = one
	}
	all := inCluster(t, held)
	for name, data := range want {
		for key, value := range data {
			if got := all.get(t, "Secret", name).Data[key]; got != value {
				t.Errorf("%s, %s: %q, want %q", name, key, got, value)
			}
		}
	}
}

// Without the line in the manifest Kubernetes goes back to one gateway until the autoscaler sees it.
func TestAnUpgradeLeavesAsManyGatewaysAsTheAutoscaler(t *testing.T) {
	for _, live := range []int{7, 0} { // none where a region is at rest
		path, set1 := statefulSet("erlmcp-cluster", live, "Parallel")
		replicas := inCluster(t, map[string]any{path: set1}, set("autoscaling.enabled=true")...).get(t, "StatefulSet", "erlmcp-cluster").Spec.Replicas
		if replicas == nil || *replicas != live {
			t.Errorf("%v gateways, and there are %d", replicas, live)
		}
		if replicas := inCluster(t, map[string]any{path: set1}).get(t, "StatefulSet", "erlmcp-cluster").Spec.Replicas; replicas == nil || *replicas != 3 {
			t.Errorf("%v gateways without an autoscaler", replicas)
		}
	}
}

// Kubernetes refuses another policy for a StatefulSet that is there.
func TestAnUpgradeKeepsHowPodsAreStarted(t *testing.T) {
	path, ordered := statefulSet("erlmcp-cluster", 3, "OrderedReady")
	for _, c := range []struct {
		held map[string]any
		args []string
		want string
	}{
		{map[string]any{}, nil, "Parallel"},
		{map[string]any{path: ordered}, nil, "OrderedReady"},
		{map[string]any{path: ordered}, set("erlmcp.podManagementPolicy=Parallel"), "Parallel"},
		{map[string]any{}, set("erlmcp.podManagementPolicy=OrderedReady"), "OrderedReady"},
	} {
		if got := inCluster(t, c.held, c.args...).get(t, "StatefulSet", "erlmcp-cluster").Spec.PodManagementPolicy; got != c.want {
			t.Errorf("%v %q: %s, want %s", c.held, c.args, got, c.want)
		}
	}
}
