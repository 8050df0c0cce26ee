package health_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"erlmcp.dev/shared/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fault is a condition's state that a test can set.
type fault struct{ err atomic.Pointer[error] }

func (f *fault) set(err error) { f.err.Store(&err) }

func (f *fault) check(context.Context) error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// run watches in the background until the test's bubble ends.
func run(t *testing.T, c health.Config) *health.Checker {
	t.Helper()
	h := health.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return h
}

func get(t *testing.T, h http.Handler, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: content type %q", path, got)
	}
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v in %q", path, err, w.Body)
	}
	return w.Code, body
}

func TestHealthTellsTheWorstThatDoesNotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var redis, store fault
		c := run(t, health.Config{Conditions: []health.Condition{
			{Name: "redis", Check: redis.check},
			{Name: "store", Check: store.check, Critical: true},
		}})
		h := health.Handler(health.HandlerConfig{Checker: c})
		down := errors.New("down")
		for _, step := range []struct {
			redis, store error
			code         int
			status       string
		}{
			{nil, nil, 200, "healthy"},
			{down, nil, 200, "degraded"},
			{down, down, 503, "unhealthy"},
			{nil, down, 503, "unhealthy"},
			{nil, nil, 200, "healthy"},
		} {
			redis.set(step.redis)
			store.set(step.store)
			time.Sleep(3 * time.Second) // the bubble's time: a round
			synctest.Wait()
			code, body := get(t, h, "/health")
			if code != step.code || body["status"] != step.status {
				t.Errorf("redis %v, store %v: %d, %v", step.redis, step.store, code, body)
			}
		}
	})
}

func TestACriticalConditionIsUnhealthyOnlyOnceItsPatienceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store fault
		down := errors.New("down")
		store.set(down)
		hangs := make(chan struct{})
		var hang atomic.Bool
		c := run(t, health.Config{Conditions: []health.Condition{{
			Name: "store", Critical: true, Patience: 10 * time.Minute,
			Check: func(ctx context.Context) error {
				if hang.Load() {
					<-hangs // heeds nothing
				}
				return store.check(ctx)
			},
		}}})
		h := health.Handler(health.HandlerConfig{Checker: c})
		expect := func(when string, want int, status string) {
			t.Helper()
			synctest.Wait()
			if code, body := get(t, h, "/health"); code != want || body["status"] != status {
				t.Errorf("%s: %d, %v", when, code, body)
			}
		}
		expect("at first", 200, "degraded")
		time.Sleep(9 * time.Minute)
		expect("for long", 200, "degraded")
		time.Sleep(time.Minute + 3*time.Second)
		expect("for too long", 503, "unhealthy")
		store.set(nil)
		time.Sleep(3 * time.Second)
		expect("well again", 200, "healthy")
		store.set(down)
		time.Sleep(9 * time.Minute)
		expect("away again", 200, "degraded")
		store.set(nil)
		time.Sleep(3 * time.Second)
		hang.Store(true)
		time.Sleep(9 * time.Minute)
		expect("a check that hangs", 200, "degraded")
		time.Sleep(time.Minute + 3*time.Second)
		expect("a check that hangs for too long", 503, "unhealthy")
		close(hangs)
	})
}

func TestHealthShowsEachDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, health.Config{Conditions: []health.Condition{
			{Name: "redis", Check: func(context.Context) error {
				time.Sleep(250 * time.Millisecond)
				return health.Reason("Redis refuses connections")
			}},
			{Name: "store", Check: func(context.Context) error { return nil }, Critical: true},
		}})
		time.Sleep(time.Second)
		_, got := get(t, health.Handler(health.HandlerConfig{Checker: c}), "/health")
		want := map[string]any{
			"status": "degraded",
			"dependencies": map[string]any{
				"redis": map[string]any{
					"status": "unhealthy", "critical": false, "error": "Redis refuses connections", "since": "2000-01-01T00:00:00Z",
					"checked_at": "2000-01-01T00:00:00.25Z", "duration_ms": 250.0,
				},
				"store": map[string]any{
					"status": "healthy", "critical": true, "checked_at": "2000-01-01T00:00:00Z", "duration_ms": 0.0,
				},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNothingHoldsBeforeItWasChecked(t *testing.T) {
	c := health.New(health.Config{Conditions: []health.Condition{
		{Name: "catalogue", Check: func(context.Context) error { return nil }, Ready: true},
	}})
	h := health.Handler(health.HandlerConfig{Checker: c})
	code, body := get(t, h, "/ready")
	want := map[string]any{"ready": false, "draining": false, "reasons": map[string]any{"catalogue": "not checked yet"}}
	if diff := cmp.Diff(want, body); code != 503 || diff != "" {
		t.Errorf("%d\n%s", code, diff)
	}
	if code, body := get(t, h, "/health"); code != 200 || body["status"] != "degraded" {
		t.Errorf("%d, %v", code, body)
	}
}

func TestReadinessNeedsItsConditionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var catalogue, redis fault
		redis.set(errors.New("down"))
		c := run(t, health.Config{Conditions: []health.Condition{
			{Name: "catalogue", Check: catalogue.check, Ready: true},
			{Name: "redis", Check: redis.check},
		}})
		h := health.Handler(health.HandlerConfig{Checker: c})
		if code, body := get(t, h, "/ready"); code != 200 || body["ready"] != true {
			t.Errorf("%d, %v", code, body)
		}
		catalogue.set(health.Reason("not loaded yet"))
		time.Sleep(3 * time.Second)
		code, body := get(t, h, "/ready")
		want := map[string]any{"ready": false, "draining": false, "reasons": map[string]any{"catalogue": "not loaded yet"}}
		if diff := cmp.Diff(want, body); code != 503 || diff != "" {
			t.Errorf("%d\n%s", code, diff)
		}
	})
}

func TestDrainingEndsReadinessAtOnceAndLeavesHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, health.Config{})
		h := health.Handler(health.HandlerConfig{Checker: c})
		c.Drain()
		if code, body := get(t, h, "/ready"); code != 503 || body["draining"] != true {
			t.Errorf("%d, %v", code, body)
		}
		if code, _ := get(t, h, "/health"); code != 200 {
			t.Errorf("health answers %d", code)
		}
		if c.Ready() {
			t.Error("still ready")
		}
	})
}

func TestAnErrorsTextIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const leak = "hunter2"
		var out bytes.Buffer
		c := run(t, health.Config{Log: slog.New(slog.NewTextHandler(&out, nil)), Conditions: []health.Condition{
			{Name: "store", Ready: true, Check: func(context.Context) error {
				return fmt.Errorf("dial postgres://erlmcp:%s@db: refused", leak)
			}},
			{Name: "catalogue", Ready: true, Check: func(context.Context) error {
				return fmt.Errorf("with %s: %w", leak, health.Reason("not loaded yet"))
			}},
		}})
		h := health.Handler(health.HandlerConfig{Checker: c, Status: func() health.Status { return health.Status{} }})
		for _, path := range []string{"/health", "/ready", "/status"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			body := w.Body.String()
			if strings.Contains(body, leak) || !strings.Contains(body, "failed") || !strings.Contains(body, "not loaded yet") {
				t.Errorf("%s: %s", path, body)
			}
		}
		if !strings.Contains(out.String(), "refused") {
			t.Error("nor does the log say why")
		}
	})
}

func TestACheckThatHangsIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		calls := 0
		c := run(t, health.Config{Conditions: []health.Condition{{
			Name: "store", Critical: true, Ready: true,
			Check: func(context.Context) error {
				if calls++; calls > 1 {
					<-release // heeds nothing
				}
				return nil
			},
		}}})
		channel := new(inprocgrpc.Channel)
		c.RegisterGRPC(channel)
		if !c.Ready() || serving(t, channel, "") != healthpb.HealthCheckResponse_SERVING {
			t.Fatal("not ready at first")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := c.Report(); r.Status != health.Unhealthy || r.Dependencies["store"].Error != "no answer in time" {
			t.Errorf("%+v", r)
		}
		if c.Ready() || serving(t, channel, "") == healthpb.HealthCheckResponse_SERVING {
			t.Error("still ready")
		}
		if calls != 2 {
			t.Errorf("%d checks: they pile up", calls)
		}
		close(release)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !c.Ready() {
			t.Error("not ready again")
		}
	})
}

func TestASlowCheckIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, health.Config{Conditions: []health.Condition{{
			Name: "redis",
			Check: func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("ping: %w", ctx.Err())
			},
		}}})
		time.Sleep(1500 * time.Millisecond)
		if got := c.Report().Dependencies["redis"].Error; got != "no answer in time" {
			t.Error(got)
		}
	})
}

func TestRequestsDoNotReachDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		c := run(t, health.Config{Conditions: []health.Condition{{
			Name: "redis", Check: func(context.Context) error { checks.Add(1); return nil },
		}}})
		h := health.Handler(health.HandlerConfig{Checker: c})
		for range 1000 {
			get(t, h, "/health")
		}
		if n := checks.Load(); n != 1 {
			t.Errorf("%d checks", n)
		}
	})
}

func TestGRPCHealthFollowsReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var catalogue fault
		const service = "erlmcp.gateway.v1.GatewayService"
		c := run(t, health.Config{
			Services:   []string{service},
			Conditions: []health.Condition{{Name: "catalogue", Check: catalogue.check, Ready: true}},
		})
		channel := new(inprocgrpc.Channel)
		c.RegisterGRPC(channel)
		expect := func(when string, want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			for _, s := range []string{"", service} {
				if got := serving(t, channel, s); got != want {
					t.Errorf("%s: %q is %v", when, s, got)
				}
			}
		}
		expect("at first", healthpb.HealthCheckResponse_SERVING)
		catalogue.set(errors.New("gone"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		expect("without the catalogue", healthpb.HealthCheckResponse_NOT_SERVING)
		catalogue.set(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		expect("with it again", healthpb.HealthCheckResponse_SERVING)
		c.Drain()
		expect("while draining", healthpb.HealthCheckResponse_NOT_SERVING)
	})
}

func serving(t *testing.T, channel *inprocgrpc.Channel, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	got, err := healthpb.NewHealthClient(channel).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetStatus()
}

func TestStatusTellsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		var redis fault
		c := run(t, health.Config{Conditions: []health.Condition{{Name: "redis", Check: redis.check}}})
		time.Sleep(90*time.Second + 100*time.Millisecond)
		_, got := get(t, health.Handler(health.HandlerConfig{Checker: c, Started: started, Status: func() health.Status {
			return health.Status{
				Version: "3.0.0", Node: "erlmcp@a", Roles: []string{"gateway", "session"},
				Sessions: 4, ClusterNodes: 3, CatalogVersion: 12, Ports: map[string]int{"http": 8080},
			}
		}}), "/status")
		want := map[string]any{
			"version": "3.0.0", "node": "erlmcp@a", "roles": []any{"gateway", "session"},
			"uptime_seconds": 90.0, "pid": float64(os.Getpid()), "sessions": 4.0, "cluster_nodes": 3.0,
			"catalog_version": 12.0, "ports": map[string]any{"http": 8080.0}, "status": "healthy",
			"dependencies": map[string]any{"redis": map[string]any{
				"status": "healthy", "critical": false, "checked_at": "2000-01-01T00:01:30Z", "duration_ms": 0.0,
			}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMetricsAreMountedAndOtherPathsAreNot(t *testing.T) {
	h := health.Handler(health.HandlerConfig{
		Checker: health.New(health.Config{}),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("erlmcp_up 1\n")) }),
	})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/metrics", 200},
		{"HEAD", "/health", 200},
		{"POST", "/health", 405},
		{"GET", "/", 404},
		{"GET", "/status", 404},
		{"GET", "/debug/pprof/", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.code {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}
