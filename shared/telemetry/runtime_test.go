package telemetry

import (
	"io/fs"
	"math"
	"testing"
)

func TestTheMemoryLimitIsTheLowestThatHolds(t *testing.T) {
	const meminfo = "MemTotal:       16777216 kB\nMemFree:        1000 kB\n"
	const v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  float64
	}{
		{"cgroup 2", map[string]string{v2: "4294967296\n", "/proc/meminfo": meminfo}, 4 << 30},
		{"cgroup 2 without limit", map[string]string{v2: "max\n", "/proc/meminfo": meminfo}, 16 << 30},
		{"cgroup 1", map[string]string{v1: "1073741824\n", "/proc/meminfo": meminfo}, 1 << 30},
		{"cgroup 1 without limit", map[string]string{v1: "9223372036854771712\n", "/proc/meminfo": meminfo}, 16 << 30},
		{"no container", map[string]string{"/proc/meminfo": meminfo}, 16 << 30},
		{"nothing known", nil, math.Inf(1)},
		{"malformed", map[string]string{v2: "lots", "/proc/meminfo": "MemTotal: many kB\nMemTotal:"}, math.Inf(1)},
	} {
		got := memoryLimit(func(path string) ([]byte, error) {
			if text, ok := c.files[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
