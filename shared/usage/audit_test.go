package usage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/usage"
)

// trail is a metrics service that may be away.
type trail struct {
	mu   sync.Mutex
	away bool
	ids  []string
}

func (t *trail) RecordAudit(_ context.Context, req *metricsv1.RecordAuditRequest, _ ...grpc.CallOption) (*metricsv1.RecordAuditResponse, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return nil, errors.New("away")
	}
	for _, e := range req.GetEvents() {
		t.ids = append(t.ids, e.GetId())
	}
	return &metricsv1.RecordAuditResponse{}, nil
}

func (t *trail) set(away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = away
}

func (t *trail) got() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.ids...)
}

func TestAuditEventsWaitForAServiceThatIsAway(t *testing.T) {
	service := &trail{away: true}
	a := auditor(t, usage.AuditorConfig{Client: service, Log: testkit.Logger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for i := range 1200 { // more than one batch
		a.Record(ctx, &metricsv1.AuditEvent{Id: fmt.Sprint(i)})
	}
	service.set(false)
	testkit.Eventually(t, func() bool { return len(service.got()) >= 1200 }, 20*time.Second)
	a.Record(ctx, &metricsv1.AuditEvent{Id: "last"})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := service.got()
	if len(got) != 1201 || got[0] != "0" || got[1199] != "1199" || got[1200] != "last" || a.Dropped() != 0 {
		t.Errorf("%d events, %d dropped", len(got), a.Dropped())
	}
}

// auditor makes an Auditor, on a spool of its own where c names none.
func auditor(t *testing.T, c usage.AuditorConfig) *usage.Auditor {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	a, err := usage.NewAuditor(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func TestAuditEventsBeyondTheBoundAreCounted(t *testing.T) {
	a := auditor(t, usage.AuditorConfig{Client: &trail{}, Limit: 3 * 4096})
	for i := range 8 {
		a.Record(t.Context(), &metricsv1.AuditEvent{Id: fmt.Sprint(i)})
	}
	if a.Dropped() != 5 {
		t.Errorf("%d dropped", a.Dropped())
	}
}

func TestAuditEventsThatManyRecordAtOnceReachTheNextLifeOfTheProcess(t *testing.T) {
	service, dir := &trail{away: true}, t.TempDir()
	first := auditor(t, usage.AuditorConfig{Client: service, Dir: dir})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() { first.Record(t.Context(), &metricsv1.AuditEvent{Id: fmt.Sprint(i)}) })
	}
	wg.Wait()
	if err := first.Close(); err != nil { // it never delivered
		t.Fatal(err)
	}
	service.set(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := auditor(t, usage.AuditorConfig{Client: service, Dir: dir}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, id := range service.got() {
		ids[id] = true
	}
	if len(ids) != 500 || len(service.got()) != 500 {
		t.Errorf("%d events, %d ids", len(service.got()), len(ids))
	}
}
