package telemetry

import (
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// LimitMemory has Go's garbage collector keep this process within nine tenths of the memory that its cgroup may hold;
// the rest is for what Go does not count. Where GOMEMLIMIT is set, or there is no limit, it changes nothing.
func LimitMemory() {
	if limit := cgroupMemory(os.ReadFile); os.Getenv(goMemoryVariable) == "" && !math.IsInf(limit, 1) {
		debug.SetMemoryLimit(int64(limit / 10 * 9))
	}
}

// goMemoryVariable is the runtime's own.
const goMemoryVariable = "GOMEMLIMIT"

// goMemoryLimit is what the operator told the runtime, in bytes: what LimitMemory did is no limit of its own.
func goMemoryLimit() float64 {
	if l := debug.SetMemoryLimit(-1); os.Getenv(goMemoryVariable) != "" && l < math.MaxInt64 {
		return float64(l)
	}
	return math.Inf(1)
}

// memoryLimit is in bytes. Without any limit it is +Inf, so that the share in use comes out as 0 and no alert fires.
func memoryLimit(read func(string) ([]byte, error), told float64) float64 {
	limit := min(told, cgroupMemory(read))
	if text, err := read("/proc/meminfo"); err == nil {
		limit = min(limit, machineMemory(string(text)))
	}
	return limit
}

// unlimited is the least number that means no limit in version 1: there it is the greatest multiple of a page.
const unlimited = 1 << 62

// cgroupMemory is the memory that this process's cgroup may hold, in bytes: the lowest limit of the cgroup and those
// around it, as far as they are seen from here. A container sees its own as the outermost. It is +Inf without a limit.
func cgroupMemory(read func(string) ([]byte, error)) float64 {
	const v2, v1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
	files := []string{v2 + "/memory.max", v1 + "/memory.limit_in_bytes"}
	own, _ := read("/proc/self/cgroup") // without it the outermost are left
	for line := range strings.Lines(string(own)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, inside, _ := strings.Cut(rest, ":")
		root, name := v1, "memory.limit_in_bytes"
		switch {
		case number == "0" && controllers == "":
			root, name = v2, "memory.max"
		case !strings.Contains(","+controllers+",", ",memory,"):
			continue
		}
		for at := path.Clean("/" + inside); at != "/"; at = path.Dir(at) {
			files = append(files, path.Join(root, at, name))
		}
	}
	limit := math.Inf(1)
	for _, file := range files {
		text, err := read(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n < unlimited { // "max" is no number
			limit = min(limit, float64(n))
		}
	}
	return limit
}

// machineMemory finds "MemTotal:  24576 kB".
func machineMemory(meminfo string) float64 {
	for line := range strings.Lines(meminfo) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			if kib, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				return float64(kib) * 1024
			}
		}
	}
	return math.Inf(1)
}
