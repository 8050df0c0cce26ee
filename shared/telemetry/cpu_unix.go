//go:build unix

package telemetry

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used, user and system. The runtime's own figure moves only when it collects garbage.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
