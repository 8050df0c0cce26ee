package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// Usage can be summed by the tenants of keys, and asked for of one.
func TestUsageIsSummedByTenant(t *testing.T) {
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}})
	admin := firstKey(t, dir, "up")
	for principal, tenant := range map[string]string{"alice": "acme", "bob": "acme", "eve": "umbrella", "mallory": ""} {
		key := makeKeyWith(t, up, admin, fmt.Sprintf(`{"principal":%q,"tenant":%q}`, principal, tenant))
		testkit.Eventually(t, func() bool {
			status, _ := listTools(t, up.URL(""), key)
			return status == http.StatusOK
		}, 10*time.Second)
	}
	usage := func(query string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster.Address(up.Ports.API)+"/api/v1/usage?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+admin)
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var got struct {
			Usage []struct{ Tenant, Principal, Method, Calls string }
		}
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, u := range got.Usage {
			if u.Tenant != "" {
				rows = append(rows, u.Tenant+" "+u.Principal)
			}
		}
		return strings.Join(rows, ", ")
	}
	for query, want := range map[string]string{
		"by=DIMENSION_TENANT": "acme , umbrella ",
		"by=DIMENSION_TENANT&by=DIMENSION_PRINCIPAL&tenant=acme": "acme alice, acme bob",
	} {
		testkit.Eventually(t, func() error {
			if got := usage(query); got != want {
				return fmt.Errorf("%s: %q, want %q", query, got, want)
			}
			return nil
		}, 30*time.Second)
	}
}
