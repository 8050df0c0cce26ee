package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func stopCommand(s *System) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "stop", Short: "Drain and stop the erlmcp on this host",
		Long:    "Ask the erlmcp on this host to stop, and wait until it has: it takes no new work, and what is open gets its\ndrain time.",
		Example: "  erlmcp stop\n  erlmcp stop --wait 2m",
	}
	h := healthFlags(s, c)
	c.Flags().DurationVar(&wait, "wait", time.Minute, "longest time to wait until it has stopped")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := h.status(cmd.Context())
		if err != nil {
			return err
		}
		pid, ok := status["pid"].(float64)
		if !ok || pid < 1 {
			return errors.New("/status tells no pid; is --health-addr right?")
		}
		if !isErlmcp(int(pid)) {
			return fmt.Errorf("process %d here is no erlmcp; run this where it runs, such as in its container", int(pid))
		}
		process, err := os.FindProcess(int(pid))
		if err == nil {
			err = process.Signal(syscall.SIGTERM)
		}
		if err != nil {
			return fmt.Errorf("tell process %d to stop: %w; run this on its host, as its user", int(pid), err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), wait)
		defer cancel()
		return awaitEnd(ctx, process, wait)
	}
	return c
}

// isErlmcp guards against a pid that counts elsewhere: the health port may lead into a container, or to another host.
func isErlmcp(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		_, noProc := os.Stat("/proc/self")
		return noProc != nil && pid > 1 // systems without /proc can't tell
	}
	program, _, _ := strings.Cut(string(line), "\x00")
	return filepath.Base(program) == "erlmcp"
}

// awaitEnd waits until a process, which need not be a child, is gone.
func awaitEnd(ctx context.Context, process *os.Process, wait time.Duration) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := process.Signal(syscall.Signal(0)); err != nil {
			return nil // the error says that it is gone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d still drains after %s; give a longer --wait", process.Pid, wait)
		}
	}
}

func memoryCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "memory", Short: "Show what the erlmcp on this host keeps in memory",
		Long:    "Print the memory figures of the erlmcp on this host, in bytes, and its number of goroutines.",
		Example: "  erlmcp memory",
	}
	h := healthFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		code, body, err := h.get(cmd.Context(), "/metrics")
		if err != nil {
			return err
		}
		var rows [][]string
		for line := range strings.Lines(string(body)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
			if ok && (strings.HasPrefix(name, "erlmcp_memory_") || strings.HasPrefix(name, "erlmcp_process_count")) {
				rows = append(rows, []string{name, value})
			}
		}
		if code != http.StatusOK || len(rows) == 0 {
			return fmt.Errorf("/metrics answered %d without erlmcp's figures; is --health-addr right?", code)
		}
		return table(s.Out, []string{"METRIC", "VALUE"}, rows)
	}
	return c
}
