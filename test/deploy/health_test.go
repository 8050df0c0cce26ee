package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/health"
	"erlmcp.dev/shared/testkit"
)

// The status of the whole decides, whatever those of dependencies are.
func TestAHealthCheckGoesByTheStatusOfTheWhole(t *testing.T) {
	down := func(context.Context) error { return errors.New("down") }
	up := func(context.Context) error { return nil }
	for status, conditions := range map[string][]health.Condition{
		"healthy":   {{Name: "postgres", Check: up, Critical: true}, {Name: "redis", Check: up}},
		"degraded":  {{Name: "postgres", Check: up, Critical: true}, {Name: "redis", Check: down}},
		"unhealthy": {{Name: "postgres", Check: down, Critical: true}, {Name: "redis", Check: up}},
	} {
		t.Run(status, func(t *testing.T) {
			checker := health.New(health.Config{Conditions: conditions})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = checker.Run(ctx)
			}()
			defer func() { cancel(); <-ended }()
			server := httptest.NewServer(health.Handler(health.HandlerConfig{Checker: checker, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintln(w, "erlmcp_up 1")
			})}))
			defer server.Close()
			testkit.Eventually(t, func() bool { return checker.Report().Status == status }, 10*time.Second)
			out, err := script(t, []string{"ERLMCP_CONTAINER=none"}, "health-check.sh", server.URL+"/health")
			if passed := strings.Contains(out, "All health checks passed"); (err == nil) != (status != "unhealthy") || passed != (err == nil) {
				t.Errorf("%v\n%s", err, out)
			}
			if warned := strings.Contains(out, "\nWarning: degraded: "); warned != (status == "degraded") {
				t.Errorf("it says\n%s", out)
			}
		})
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"state":"up","status of another":"healthy"}`)
	}))
	defer other.Close()
	refuses(t, nil, "is no erlmcp", "health-check.sh", other.URL+"/health")
}
