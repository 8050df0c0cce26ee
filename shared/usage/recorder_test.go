package usage_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"erlmcp.dev/shared/usage"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service counts as the metrics service promises to: each batch once. What it answers, a test decides.
type service struct {
	mu      sync.Mutex
	taken   map[string]*metricsv1.RecordUsageRequest // by node and sequence
	asked   int
	refuse  func(*metricsv1.RecordUsageRequest) error // before taking
	lose    func(*metricsv1.RecordUsageRequest) error // after taking
	changed []string
}

func (s *service) RecordUsage(ctx context.Context, req *metricsv1.RecordUsageRequest, _ ...grpc.CallOption) (*metricsv1.RecordUsageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	if s.refuse != nil {
		if err := s.refuse(req); err != nil {
			return nil, err
		}
	}
	if s.taken == nil {
		s.taken = make(map[string]*metricsv1.RecordUsageRequest)
	}
	id := fmt.Sprint(req.GetNode(), "#", req.GetSequence())
	if before, ok := s.taken[id]; !ok {
		s.taken[id] = proto.CloneOf(req)
	} else if !proto.Equal(before, req) {
		s.changed = append(s.changed, id)
	}
	if s.lose != nil {
		if err := s.lose(req); err != nil {
			return nil, err
		}
	}
	return &metricsv1.RecordUsageResponse{}, nil
}

func (s *service) set(refuse, lose func(*metricsv1.RecordUsageRequest) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse, s.lose = refuse, lose
}

func always(code codes.Code) func(*metricsv1.RecordUsageRequest) error {
	return func(*metricsv1.RecordUsageRequest) error { return status.Error(code, "no") }
}

// counts are calls/errors/micros by "minute principal server method name".
func (s *service) counts() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := make(map[string][3]uint64)
	for _, b := range s.taken {
		for _, u := range b.GetUsage() {
			k := strings.Join([]string{u.GetMinute().AsTime().Format("15:04:05"), u.GetPrincipal(), u.GetServer(), u.GetMethod(), u.GetName()}, " ")
			sums[k] = [3]uint64{sums[k][0] + u.GetCalls(), sums[k][1] + u.GetErrors(), sums[k][2] + u.GetMicros()}
		}
	}
	text := make(map[string]string)
	for k, n := range sums {
		text[k] = fmt.Sprintf("%d/%d/%d", n[0], n[1], n[2])
	}
	return text
}

func (s *service) calls() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.taken {
		for _, u := range b.GetUsage() {
			n += u.GetCalls()
		}
	}
	return n
}

// recorder makes a Recorder, on a spool of its own where c names none.
func recorder(t testing.TB, c usage.RecorderConfig) *usage.Recorder {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	r, err := usage.NewRecorder(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// run runs a Recorder until stop is called, or the test ends.
func run(t *testing.T, c usage.RecorderConfig) (r *usage.Recorder, stop func()) {
	t.Helper()
	c.Node = "erlmcp@a"
	r = recorder(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return r, stop
}

func expect(t *testing.T, s *service, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, s.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changed) > 0 {
		t.Errorf("batches that came again were others: %v", s.changed)
	}
}

func TestCallsAreCountedByWhatTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, _ := run(t, usage.RecorderConfig{Client: &s})
		for range 3 {
			r.Record("ann", "", "weather", "tools/call", "rain", false, 1500*time.Nanosecond)
		}
		r.Record("ann", "", "weather", "tools/call", "rain", true, time.Second)
		r.Record("ann", "", "weather", "tools/call", "wind", false, -time.Second)
		r.Record("bob", "", "", "tools/list", "", false, time.Millisecond)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		expect(t, &s, map[string]string{
			"00:00:00 ann weather tools/call rain": "4/1/1000004",
			"00:00:00 ann weather tools/call wind": "1/0/0",
			"00:00:00 bob  tools/list ":            "1/0/1000",
		})
	})
}

func TestCallsBelongToTheirMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, _ := run(t, usage.RecorderConfig{Client: &s, Interval: 7 * time.Second})
		for range 180 {
			time.Sleep(time.Second) // from 00:00:01 to 00:03:00
			synctest.Wait()
			r.Record("ann", "", "", "ping", "", false, 0)
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		expect(t, &s, map[string]string{
			"00:00:00 ann  ping ": "59/0/0", "00:01:00 ann  ping ": "60/0/0", "00:02:00 ann  ping ": "60/0/0", "00:03:00 ann  ping ": "1/0/0",
		})
	})
}

func TestNothingIsSentWhenNothingWasCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s})
		r.Record("ann", "", "", "ping", "", false, 0)
		time.Sleep(10 * time.Minute)
		stop()
		if s.asked != 1 {
			t.Errorf("%d batches for one call", s.asked)
		}
	})
}

func TestWhatIsLeftIsDeliveredOnStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s})
		r.Record("ann", "", "", "ping", "", false, 0)
		stop()
		expect(t, &s, map[string]string{"00:00:00 ann  ping ": "1/0/0"})
	})
}

func TestCountsWaitWhileTheServiceIsAwayAndCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s})
		time.Sleep(500 * time.Millisecond) // so that no call comes at a minute's very turn
		const minutes = 30
		for i := range minutes {
			switch i % 3 {
			case 0:
				s.set(nil, nil)
			case 1:
				s.set(always(codes.Unavailable), nil)
			case 2: // it takes batches, and the answers are lost
				s.set(nil, always(codes.Unavailable))
			}
			for range 60 {
				r.Record("ann", "", "weather", "tools/call", "rain", false, time.Microsecond)
				time.Sleep(time.Second)
			}
		}
		s.set(nil, nil)
		stop()
		want := map[string]string{}
		for i := range minutes {
			want[fmt.Sprintf("00:%02d:00 ann weather tools/call rain", i)] = "60/0/60"
		}
		expect(t, &s, want)
		if n := r.Dropped(); n != 0 {
			t.Errorf("%d calls dropped", n)
		}
	})
}

func TestHoursWithoutTheServiceTakeBoundedDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		s.set(always(codes.Unavailable), nil)
		r, stop := run(t, usage.RecorderConfig{Client: &s, Limit: 100 * 4096})
		time.Sleep(500 * time.Millisecond) // so that no call comes at a minute's very turn
		const minutes = 600
		for range minutes {
			r.Record("ann", "", "", "ping", "", false, 0)
			time.Sleep(time.Minute)
		}
		s.set(nil, nil)
		stop()
		kept, dropped := s.calls(), r.Dropped()
		if kept != 100 || kept+dropped != minutes {
			t.Errorf("%d delivered and %d dropped of %d", kept, dropped, minutes)
		}
		if _, ok := s.counts()["09:59:00 ann  ping "]; !ok {
			t.Error("the newest was dropped")
		}
	})
}

func TestCountsThatAProcessLeftAreDeliveredByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		s.set(nil, always(codes.Unavailable)) // it takes batches, and the answers are lost
		dir := t.TempDir()
		for range 3 {
			r, stop := run(t, usage.RecorderConfig{Client: &s, Dir: dir})
			r.Record("ann", "", "", "ping", "", false, 0)
			stop()
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if r.Dropped() != 0 {
				t.Errorf("%d dropped", r.Dropped())
			}
		}
		s.set(nil, nil)
		r, stop := run(t, usage.RecorderConfig{Client: &s, Dir: dir})
		stop()
		if n := s.calls(); n != 3 || r.Dropped() != 0 {
			t.Errorf("%d calls delivered, %d dropped", n, r.Dropped())
		}
	})
}

func TestABatchThatIsRefusedDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		s.set(func(req *metricsv1.RecordUsageRequest) error {
			if req.GetSequence() == 1 {
				return status.Error(codes.InvalidArgument, "no")
			}
			return nil
		}, nil)
		r, stop := run(t, usage.RecorderConfig{Client: &s})
		r.Record("ann", "", "", "ping", "", false, 0)
		time.Sleep(6 * time.Second)
		r.Record("bob", "", "", "ping", "", false, 0)
		stop()
		expect(t, &s, map[string]string{"00:00:00 bob  ping ": "1/0/0"})
		if r.Dropped() != 1 {
			t.Errorf("%d dropped", r.Dropped())
		}
	})
}

func TestStoppingWithoutTheServiceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hanging{}
		r, stop := run(t, usage.RecorderConfig{Client: s})
		for range 20 {
			r.Record("ann", "", "", "ping", "", false, 0)
			time.Sleep(time.Minute)
		}
		start := time.Now()
		stop()
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("it took %v", d)
		}
		if r.Dropped() != 0 {
			t.Errorf("%d dropped", r.Dropped())
		}
	})
}

// hanging never answers.
type hanging struct{}

func (*hanging) RecordUsage(ctx context.Context, _ *metricsv1.RecordUsageRequest, _ ...grpc.CallOption) (*metricsv1.RecordUsageResponse, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func TestInventedNamesAreFoldedAndEveryCallCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s, Keys: 256})
		const names, principals = 5000, 3000
		for i := range names {
			r.Record("ann", "", "weather", "tools/call", fmt.Sprint("name", i), false, 0)
		}
		for i := range principals {
			r.Record(fmt.Sprint("principal", i), "", "weather", "tools/call", "rain", false, 0)
		}
		stop()
		counts := s.counts()
		if len(counts) > 256+16 {
			t.Errorf("%d rows", len(counts))
		}
		if n := s.calls(); n != names+principals {
			t.Errorf("%d calls of %d", n, names+principals)
		}
		for _, k := range []string{"ann weather tools/call other", "other other other other"} {
			if counts["00:00:00 "+k] == "" {
				t.Errorf("nothing was folded into %q", k)
			}
		}
	})
}

func TestNamesThatFillTheTableLeaveItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s, Keys: 64})
		for i := range 1000 {
			r.Record("ann", "", "weather", "tools/call", fmt.Sprint("name", i), false, 0)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.Record("ann", "", "weather", "tools/call", "rain", false, 0)
		stop()
		if got := s.counts()["00:02:00 ann weather tools/call rain"]; got != "1/0/0" {
			t.Errorf("%q", got)
		}
	})
}

func TestWhatTheServiceWouldRefuseIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s})
		r.Record("ann", "", "weather", "tools/call", strings.Repeat("x", 257), false, 0)
		r.Record("ann", "", "weather", "tools/call", "a\x00b", false, 0)
		r.Record("ann", "", "weather", "tools/call", "a\xffb", false, 0)
		r.Record(strings.Repeat("x", 257), "", strings.Repeat("x", 65), strings.Repeat("x", 129), "", false, 0)
		stop()
		expect(t, &s, map[string]string{"00:00:00 ann weather tools/call other": "3/0/0", "00:00:00 other other other ": "1/0/0"})
	})
}

func TestManyKeysComeInBatchesThatGRPCTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s service
		r, stop := run(t, usage.RecorderConfig{Client: &s, Keys: 1 << 16})
		long := strings.Repeat("x", 240)
		for i := range 9000 {
			r.Record(long, "", "weather", "tools/call", fmt.Sprint(long, i), false, 0)
		}
		stop()
		for id, b := range s.taken {
			if n := proto.Size(b); n > 4<<20 {
				t.Errorf("%s has %d bytes", id, n)
			}
		}
		if n := s.calls(); n != 9000 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestConcurrentCallersLoseNothing(t *testing.T) {
	var s service
	r, stop := run(t, usage.RecorderConfig{Client: &s, Interval: time.Millisecond})
	const callers, calls = 8, 5000
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				r.Record("ann", "", "weather", "tools/call", fmt.Sprint(i%(c+1)), i%2 == 0, time.Microsecond)
			}
		})
	}
	wg.Wait()
	stop()
	if n := s.calls(); n != callers*calls {
		t.Errorf("%d calls of %d", n, callers*calls)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	r := recorder(t, usage.RecorderConfig{})
	names := []string{"rain", "wind", "snow"}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		r.Record("ann", "", "weather", "tools/call", names[i%len(names)], false, time.Millisecond)
		i++
	}); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := recorder(b, usage.RecorderConfig{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Record("ann@example.test", "", "weather", "tools/call", "weather_rain", false, time.Millisecond)
		}
	})
}
