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
	a := usage.NewAuditor(service, testkit.Logger(t))
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

func TestAuditEventsBeyondTheBoundAreCounted(t *testing.T) {
	a := usage.NewAuditor(&trail{}, nil)
	for i := range 10_005 {
		a.Record(t.Context(), &metricsv1.AuditEvent{Id: fmt.Sprint(i)})
	}
	if a.Dropped() != 5 {
		t.Errorf("%d dropped", a.Dropped())
	}
}
