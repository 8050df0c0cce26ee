package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// inherited are the variables that a program gets of ours; secrets stay here.
var inherited = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// Process is a running program: reading gives its standard output, writing fills its standard input.
type Process struct {
	io.Writer

	command *exec.Cmd
	stdin   io.Closer
	stdout  *os.File
	stderr  *tail
	started time.Time
	exited  chan struct{} // closed once it is gone, with all that it started
	running sync.WaitGroup
	once    sync.Once

	onWell func() // called once

	mu     sync.Mutex
	well   bool
	hungUp bool // before it was closed
	closed bool
}

// start runs a program that carries mark in its environment.
func start(e *registryv1.StdioEndpoint, mark string) (*Process, error) {
	if len(e.GetCommand()) == 0 {
		return nil, errors.New("the server's command is empty")
	}
	c := exec.Command(e.GetCommand()[0], e.GetCommand()[1:]...)
	c.Dir = e.GetDir()
	c.Env = append(environment(e.GetEnv()), mark)
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
	p := &Process{
		Writer: stdin, command: c, stdin: stdin, stdout: stdout,
		stderr: newTail(e.GetEnv()), exited: make(chan struct{}), started: time.Now(),
	}
	c.Stderr = p.stderr
	c.WaitDelay = time.Second // a grandchild may keep standard error open
	started := make(chan error, 1)
	p.running.Go(func() {
		// The kernel ends a program with the thread that started it, not with the process: the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := c.Start()
		_ = output.Close()
		started <- err
		if err == nil {
			_ = c.Wait() // how it ended is in ProcessState
			killGroup(c.Process.Pid, syscall.SIGKILL)
			killMarked(mark)
		}
	})
	if err := <-started; err != nil {
		p.running.Wait()
		_ = stdout.Close()
		return nil, fmt.Errorf("starting %q: %w; check that it is installed and in PATH", e.GetCommand()[0], err)
	}
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

// Read implements io.Reader.
func (p *Process) Read(b []byte) (int, error) {
	n, err := p.stdout.Read(b)
	if err != nil {
		p.mu.Lock()
		p.hungUp = p.hungUp || !p.closed
		p.mu.Unlock()
	}
	return n, err
}

// Exited is closed once the program is gone, with all that it started.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Ended says how the program ended, such as "exit status 1"; empty while it runs.
func (p *Process) Ended() string {
	select {
	case <-p.exited:
		return p.command.ProcessState.String()
	default:
		return ""
	}
}

// Stderr returns the last lines that the program wrote to its standard error, fit to be shown to those who look
// after the server: of bounded length, without control characters, and without the values of the variables that its
// declaration gives it, which may be secrets.
func (p *Process) Stderr() string { return p.stderr.String() }

// Well says that the program answered as a server does.
func (p *Process) Well() {
	p.mu.Lock()
	first := !p.well
	p.well = true
	p.mu.Unlock()
	if first && p.onWell != nil {
		p.onWell()
	}
}

func (p *Process) isWell() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.well
}

// early reports whether the program, which is gone, ended by itself soon after it was started.
func (p *Process) early() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (p.hungUp || !p.closed) && (!p.well || time.Since(p.started) < quickDeath)
}

// How long a program has to end by itself once its input is closed, and once it was told to end.
const (
	inputGrace = 2 * time.Second
	termGrace  = 2 * time.Second
)

// Close ends the program and everything that it started: its input is closed, then it is told to end, then it
// is killed. It returns once the program is gone.
func (p *Process) Close() error {
	p.once.Do(func() {
		p.mu.Lock()
		select {
		case <-p.exited: // by itself
		default:
			p.closed = true
		}
		p.mu.Unlock()
		_ = p.stdin.Close()
		if !p.gone(inputGrace) {
			killGroup(p.command.Process.Pid, syscall.SIGTERM)
			if !p.gone(termGrace) {
				killGroup(p.command.Process.Pid, syscall.SIGKILL)
			}
		}
		p.running.Wait()
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
