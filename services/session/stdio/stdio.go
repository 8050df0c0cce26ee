// Package stdio runs programs that speak MCP on their standard streams. It must not know the protocol: a
// [Process] is a stream of bytes, with the last lines of what the program wrote to its standard error.
//
// No program outlives the process that started it, however that ends: see [Watch]. Start at [Runner].
package stdio

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Runner starts programs and bounds how many run. The zero Runner has the default limits and no watchdog.
type Runner struct {
	// MaxPrograms is how many programs run at once; 200 when 0.
	MaxPrograms int
	// MaxPerPrincipal is how many of them run for one principal; 50 when 0.
	MaxPerPrincipal int
	// Watchdog is the command, before one more argument, of a process that calls Watch. It runs from the first program
	// on until Close. Without it programs may outlive this process if that is killed.
	Watchdog []string
	// Log hears of programs that end soon after their start; none when nil.
	Log *slog.Logger

	breaker breaker

	mu      sync.Mutex
	total   int
	running map[string]int // by principal
	watch   *watchdog
	number  atomic.Uint64
}

// ErrFull: a limit on programs is reached.
var ErrFull = errors.New("too many programs are running; end some sessions or raise limits.programs")

// Program is what to run, and for whom.
type Program struct {
	// Server names the server that the program is.
	Server string
	// Principal is whom it runs for; empty for erlmcp itself.
	Principal string
	Endpoint  *registryv1.StdioEndpoint
}

// Start runs a program. The error says what to do; it is ErrFull, a *RestError or that of the start. The caller must
// Close the Process, also after it ended.
func (r *Runner) Start(program Program) (*Process, error) {
	of := runs{program.Principal, program.Server}
	if err := r.take(program.Principal); err != nil {
		return nil, err
	}
	trial, err := r.breaker.admit(of, program.Endpoint)
	if err != nil {
		r.give(program.Principal)
		return nil, err
	}
	p, err := r.start(program.Endpoint)
	if err != nil {
		r.give(program.Principal)
		if trial {
			r.breaker.tried(of)
		}
		return nil, err
	}
	if trial {
		p.onWell = func() { r.breaker.tried(of) }
	}
	p.running.Go(func() {
		<-p.exited
		r.watch.remove(p.command.Process.Pid)
		r.give(program.Principal)
		switch {
		case p.early():
			if r.Log != nil {
				r.Log.Warn("a program ended soon after its start", "server", program.Server, "principal", program.Principal, "how", p.Ended(), "stderr", p.Stderr())
			}
			r.breaker.died(of, program.Endpoint, p.started, p.Stderr())
		case p.isWell():
			r.breaker.lived(of)
		case trial:
			r.breaker.tried(of)
		}
	})
	return p, nil
}

func (r *Runner) start(e *registryv1.StdioEndpoint) (*Process, error) {
	watch, err := r.watching()
	if err != nil {
		return nil, err
	}
	p, err := start(e, watch.mark+strconv.FormatUint(r.number.Add(1), 10))
	if err == nil {
		watch.add(p.command.Process.Pid)
	}
	return p, err
}

// watching returns the watchdog, which runs.
func (r *Runner) watching() (*watchdog, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watch == nil {
		r.watch = &watchdog{command: r.Watchdog, mark: markName + rand.Text() + "-", groups: map[int]bool{}}
	}
	return r.watch, r.watch.run()
}

// Close ends the watchdog. No program may run any more.
func (r *Runner) Close() error {
	r.mu.Lock()
	watch := r.watch
	r.mu.Unlock()
	if watch != nil {
		watch.close()
	}
	return nil
}

func (r *Runner) take(principal string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total >= r.most() || r.running[principal] >= orDefault(r.MaxPerPrincipal, 50) {
		return ErrFull
	}
	if r.running == nil {
		r.running = map[string]int{}
	}
	r.total++
	r.running[principal]++
	return nil
}

func (r *Runner) most() int { return orDefault(r.MaxPrograms, 200) }

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func (r *Runner) give(principal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.running[principal]--; r.running[principal] == 0 {
		delete(r.running, principal)
	}
}

// Status is what a Runner does now.
type Status struct {
	// Running is how many programs run, Most how many may.
	Running, Most int
	// Resting tells of servers whose program ends soon after its start, so that it is not started at every call: how
	// often in a row that was.
	Resting map[string]int
}

// Status is what the Runner does now.
func (r *Runner) Status() Status {
	return Status{Running: r.Running(), Most: r.most(), Resting: r.breaker.resting()}
}

// Running is how many programs run now.
func (r *Runner) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
