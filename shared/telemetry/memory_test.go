package telemetry

import (
	"io/fs"
	"math"
	"testing"
)

func TestTheMemoryLimitIsTheLowestThatHolds(t *testing.T) {
	const meminfo = "MemTotal:       16777216 kB\nMemFree:        1000 kB\n"
	const v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	const none = "9223372036854771712\n"
	inf := math.Inf(1)
	for _, c := range []struct {
		name   string
		files  map[string]string
		told   float64 // by GOMEMLIMIT
		want   float64
		cgroup float64
	}{
		{"cgroup 2", map[string]string{v2: "4294967296\n", "/proc/meminfo": meminfo}, inf, 4 << 30, 4 << 30},
		{"cgroup 2 without limit", map[string]string{v2: "max\n", "/proc/meminfo": meminfo}, inf, 16 << 30, inf},
		{"cgroup 2 of a unit", map[string]string{
			"/proc/self/cgroup": "0::/system.slice/erlmcp.service\n", "/sys/fs/cgroup/system.slice/erlmcp.service/memory.max": "2147483648\n",
			"/sys/fs/cgroup/system.slice/memory.max": "max\n", "/proc/meminfo": meminfo,
		}, inf, 2 << 30, 2 << 30},
		{"cgroup 2, the one around is lower", map[string]string{
			"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "2147483648\n", "/sys/fs/cgroup/a/memory.max": "1073741824\n",
		}, inf, 1 << 30, 1 << 30},
		{"cgroup 1", map[string]string{v1: "1073741824\n", "/proc/meminfo": meminfo}, inf, 1 << 30, 1 << 30},
		{"cgroup 1 without limit", map[string]string{v1: none, "/proc/meminfo": meminfo}, inf, 16 << 30, inf},
		{"cgroup 1 of a unit", map[string]string{
			"/proc/self/cgroup": "5:cpu,cpuacct:/other\n4:memory:/unit\n0::/\n", "/sys/fs/cgroup/memory/unit/memory.limit_in_bytes": "1073741824\n",
			"/sys/fs/cgroup/memory/other/memory.limit_in_bytes": "1\n", v1: none,
		}, inf, 1 << 30, 1 << 30},
		{"a container that does not see where it is", map[string]string{"/proc/self/cgroup": "4:memory:/docker/f00\n", v1: "1073741824\n"}, inf, 1 << 30, 1 << 30},
		{"GOMEMLIMIT", map[string]string{v2: "4294967296\n", "/proc/meminfo": meminfo}, 3 << 30, 3 << 30, 4 << 30},
		{"GOMEMLIMIT beyond the cgroup", map[string]string{v2: "4294967296\n", "/proc/meminfo": meminfo}, 5 << 30, 4 << 30, 4 << 30},
		{"no container", map[string]string{"/proc/meminfo": meminfo}, inf, 16 << 30, inf},
		{"nothing known", nil, inf, inf, inf},
		{"malformed", map[string]string{v2: "lots", "/proc/self/cgroup": "x\n0:\n::\n0::../../etc", "/proc/meminfo": "MemTotal: many kB\nMemTotal:"}, inf, inf, inf},
	} {
		read := func(path string) ([]byte, error) {
			if text, ok := c.files[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		}
		if got := memoryLimit(read, c.told); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := cgroupMemory(read); got != c.cgroup {
			t.Errorf("%s: the cgroup may hold %v, want %v", c.name, got, c.cgroup)
		}
	}
}
