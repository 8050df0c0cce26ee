// Package stdio runs programs that speak MCP on their standard streams. It must not know the protocol: a
// [Process] is a stream of bytes, with the last lines of what the program wrote to its standard error.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Runner starts programs and bounds how many run. The zero Runner has the default limits.
type Runner struct {
	// MaxPrograms is how many programs run at once; 200 when 0.
	MaxPrograms int
	// MaxPerPrincipal is how many of them run for one principal; 50 when 0.
	MaxPerPrincipal int

	mu      sync.Mutex
	total   int
	running map[string]int // by principal
}

// ErrFull: a limit on programs is reached.
var ErrFull = errors.New("too many programs are running; end some sessions or raise the limit")

// inherited are the variables that a program gets of ours; secrets stay here.
var inherited = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// Start runs a program for a principal. The error says what to do; it is ErrFull or that of the start.
func (r *Runner) Start(principal string, e *registryv1.StdioEndpoint) (*Process, error) {
	if err := r.take(principal); err != nil {
		return nil, err
	}
	p, err := start(e)
	if err != nil {
		r.give(principal)
		return nil, err
	}
	p.watched.Go(func() {
		<-p.exited
		r.give(principal)
	})
	return p, nil
}

func (r *Runner) take(principal string) error {
	most, each := r.MaxPrograms, r.MaxPerPrincipal
	if most == 0 {
		most = 200
	}
	if each == 0 {
		each = 50
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total >= most || r.running[principal] >= each {
		return ErrFull
	}
	if r.running == nil {
		r.running = map[string]int{}
	}
	r.total++
	r.running[principal]++
	return nil
}

func (r *Runner) give(principal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.running[principal]--; r.running[principal] == 0 {
		delete(r.running, principal)
	}
}

// Running is how many programs run now.
func (r *Runner) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// Process is a running program: reading gives its standard output, writing fills its standard input.
type Process struct {
	io.Reader
	io.Writer

	command *exec.Cmd
	stdin   io.Closer
	stdout  io.Closer
	stderr  *tail
	exited  chan struct{} // closed once it is gone
	watched sync.WaitGroup
	once    sync.Once
}

func start(e *registryv1.StdioEndpoint) (*Process, error) {
	if len(e.GetCommand()) == 0 {
		return nil, errors.New("the server's command is empty")
	}
	c := exec.Command(e.GetCommand()[0], e.GetCommand()[1:]...)
	c.Dir = e.GetDir()
	c.Env = environment(e.GetEnv())
	c.SysProcAttr = ownGroup()
	stdin, err := c.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making the program's standard input: %w", err)
	}
	// Wait must not close the output before it was read to its end, so the pipe is ours and not exec's.
	stdout, output, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the program's standard output: %w", err)
	}
	c.Stdout = output
	p := &Process{Reader: stdout, Writer: stdin, command: c, stdin: stdin, stdout: stdout, stderr: &tail{}, exited: make(chan struct{})}
	c.Stderr = p.stderr
	c.WaitDelay = time.Second // a grandchild may keep standard error open
	err = c.Start()
	_ = output.Close()
	if err != nil {
		_ = stdout.Close()
		return nil, fmt.Errorf("starting %q: %w; check that it is installed and in PATH", e.GetCommand()[0], err)
	}
	p.watched.Go(func() {
		_ = c.Wait() // how it ended is in ProcessState
		killGroup(c.Process.Pid, syscall.SIGKILL)
		close(p.exited)
	})
	return p, nil
}

func environment(own map[string]string) []string {
	var env []string
	for _, key := range inherited {
		if value, ok := os.LookupEnv(key); ok && own[key] == "" {
			env = append(env, key+"="+value)
		}
	}
	for key, value := range own {
		env = append(env, key+"="+value)
	}
	return env
}

// Exited is closed once the program is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stderr returns the last lines that the program wrote to its standard error.
func (p *Process) Stderr() string { return p.stderr.String() }

// How long a program has to end by itself once its input is closed, and once it was told to end.
const (
	inputGrace = 2 * time.Second
	termGrace  = 2 * time.Second
)

// Close ends the program and everything that it started: its input is closed, then it is told to end, then it
// is killed. It returns once the program is gone.
func (p *Process) Close() error {
	p.once.Do(func() {
		_ = p.stdin.Close()
		if !p.gone(inputGrace) {
			killGroup(p.command.Process.Pid, syscall.SIGTERM)
			if !p.gone(termGrace) {
				killGroup(p.command.Process.Pid, syscall.SIGKILL)
			}
		}
		p.watched.Wait()
		_ = p.stdout.Close()
	})
	return nil
}

func (p *Process) gone(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	select {
	case <-p.exited:
		return true
	case <-ctx.Done():
		return false
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

// maxTail is how many bytes of standard error are kept, maxLines how many lines are told.
const (
	maxTail  = 8 << 10
	maxLines = 10
)

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - maxTail; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.end)), "\n")
	if len(lines) > maxLines {
		lines = lines[len(lines)-maxLines:]
	}
	return strings.Join(lines, "\n")
}
