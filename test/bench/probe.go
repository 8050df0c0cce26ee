package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Watched is a process whose work is counted.
type Watched struct {
	PID int
	// Metrics is a URL with go_memstats_mallocs_total in Prometheus' text format.
	Metrics string
}

// CPU is the time that the process has run on any core, user and system, in its whole life.
func (w Watched) CPU() (time.Duration, error) {
	// The kernel's name for the CPU clock of another process: see clock_getcpuclockid(3). Unlike /proc/PID/stat,
	// which counts hundredths of a second, it is exact.
	const cpuClockSched = 2
	clock := int32(^w.PID)<<3 | cpuClockSched
	var at unix.Timespec
	if err := unix.ClockGettime(clock, &at); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", w.PID, err)
	}
	return time.Duration(at.Nano()), nil
}

// Mallocs is how many objects the process has allocated in its whole life.
func (w Watched) Mallocs(ctx context.Context) (float64, error) {
	return w.Metric(ctx, mallocsName)
}

// Metric reads one of the process's metrics.
func (w Watched) Metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%s has no %s", w.Metrics, name)
}

// work is what processes did up to a moment, summed.
type work struct {
	cpu     time.Duration
	mallocs float64
}

// meter reads the work of a target's processes. Reading allocations makes some itself; what one reading costs is
// found at the start and taken off.
type meter struct {
	watched []Watched
	cost    float64 // allocations of one reading
}

func newMeter(ctx context.Context, watched []Watched) (meter, error) {
	m := meter{watched: watched}
	const readings = 5 // the first ones open connections and fill caches
	var before float64
	for i := range readings {
		now, err := m.mallocs(ctx)
		if err != nil {
			return m, err
		}
		if i > 0 {
			m.cost = now - before
		}
		before = now
	}
	return m, nil
}

// start reads allocations first and the clock last, and stop the other way round, so that the CPU time of a
// reading is never counted.
func (m meter) start(ctx context.Context) (w work, err error) {
	if w.mallocs, err = m.mallocs(ctx); err != nil {
		return w, err
	}
	w.cpu, err = m.cpu()
	return w, err
}

func (m meter) stop(ctx context.Context, from work) (w work, err error) {
	if w.cpu, err = m.cpu(); err != nil {
		return w, err
	}
	if w.mallocs, err = m.mallocs(ctx); err != nil {
		return w, err
	}
	return work{w.cpu - from.cpu, max(0, w.mallocs-from.mallocs-m.cost)}, nil
}

func (m meter) cpu() (sum time.Duration, err error) {
	for _, w := range m.watched {
		used, err := w.CPU()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

func (m meter) mallocs(ctx context.Context) (sum float64, err error) {
	for _, w := range m.watched {
		n, err := w.Mallocs(ctx)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
