package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Program says what to run.
type Program struct {
	// Name is what errors and the log file call it; empty means the base name of Path.
	Name string
	Path string
	Args []string
	// Env is added to PATH and HOME of this process; nothing else is passed on, so that a test does not depend
	// on the shell it was started from.
	Env []string
	// Dir is the working directory, where NAME.log is kept; it is made if missing. Empty means a new temporary
	// directory, which Stop and Kill leave in place.
	Dir string
	// Ready is asked until it gives nil, and the start fails when the program ends first or ctx does. Nil means
	// ready at once.
	Ready func(context.Context, *Process) error
}

// Process is a program that was started. Its methods may be called at the same time, except that Restart must
// not meet another one.
type Process struct {
	program Program
	cmd     *exec.Cmd
	watch   *watchdog
	log     *log
	exited  chan struct{} // closed when the process was waited for
	err     error         // why it ended; valid once exited is closed
}

// Start runs a program and waits until it is ready. ctx bounds the start, not the run: end it by Stop or Kill.
func Start(ctx context.Context, program Program) (*Process, error) {
	if program.Name == "" {
		program.Name = filepath.Base(program.Path)
	}
	if program.Dir == "" {
		dir, err := os.MkdirTemp("", "erlmcp-"+program.Name+"-")
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", program.Name, err)
		}
		program.Dir = dir
	}
	p := &Process{program: program}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Process) start(ctx context.Context) error {
	name := p.program.Name
	if err := os.MkdirAll(p.program.Dir, 0o700); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	var err error
	if p.log, err = openLog(filepath.Join(p.program.Dir, name+".log")); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	cmd := exec.Command(p.program.Path, p.program.Args...)
	cmd.Dir = p.program.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, p.program.Env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// A group of its own: an interrupt typed at a terminal reaches the test, which then ends its programs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a grandchild that holds the log open must not hold up Wait
	if err := cmd.Start(); err != nil {
		p.log.close()
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.cmd, p.exited, p.err = cmd, make(chan struct{}), nil
	if p.watch, err = watch(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		p.log.close()
		return fmt.Errorf("start %s: %w", name, err)
	}
	go p.wait(cmd, p.watch, p.log, p.exited) // ends with the program; Stop, Kill and Wait wait for it
	if err := p.becomeReady(ctx); err != nil {
		p.Kill()
		return fmt.Errorf("start %s: %w; its log (%s) ends:\n%s", name, err, p.log.path, p.log.tail())
	}
	return nil
}

func (p *Process) wait(cmd *exec.Cmd, watch *watchdog, log *log, exited chan struct{}) {
	p.err = cmd.Wait()
	watch.dismiss()
	log.close()
	close(exited)
}

func (p *Process) becomeReady(ctx context.Context) error {
	if p.program.Ready == nil {
		return nil
	}
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		last = p.program.Ready(attempt, p)
		cancel()
		if last == nil {
			return nil
		}
		retry := time.NewTimer(10 * time.Millisecond)
		select {
		case <-retry.C:
		case <-p.exited:
			retry.Stop()
			return fmt.Errorf("it ended before it was ready: %w", p.err)
		case <-ctx.Done():
			retry.Stop()
			return fmt.Errorf("it did not become ready: %w (last: %w)", ctx.Err(), last)
		}
	}
}

// Name is the program's name.
func (p *Process) Name() string { return p.program.Name }

// PID is the id of the process that was started last.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how the process ended: nil for exit code 0, an [*exec.ExitError] otherwise. It waits for the end.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Log is everything the process wrote to standard output and error since its last start.
func (p *Process) Log() string { return p.log.text() }

// Stop asks the process to end (SIGTERM) and waits. When ctx ends first it is killed, and the error says so.
// Otherwise the error is that of [Process.Err].
func (p *Process) Stop(ctx context.Context) error {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("stop %s: it had to be killed: %w", p.program.Name, ctx.Err())
	}
}

// Kill ends the process as a crash does (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// Pause freezes the process (SIGSTOP): its connections stay open, and nothing answers.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume lets a frozen process go on (SIGCONT).
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// Restart starts the program again, as it was, after it has ended.
func (p *Process) Restart(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.start(ctx)
	default:
		return fmt.Errorf("restart %s: it is still running: stop or kill it first", p.program.Name)
	}
}

func (p *Process) signal(s os.Signal) {
	select {
	case <-p.exited: // its id may be another's by now
	default:
		_ = p.cmd.Process.Signal(s) // it ended in between; Wait tells
	}
}

// watchdog is a shell that kills the process when this process is gone, however it ended. The kernel's
// parent-death signal is not used: it follows the thread that forked, which may end before the program.
type watchdog struct {
	cmd  *exec.Cmd
	line io.WriteCloser
}

func watch(pid int) (*watchdog, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r done || { kill -CONT "$1"; kill -KILL "$1"; }`, "watchdog", fmt.Sprint(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	line, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(errors.New("watch over it"), err)
	}
	return &watchdog{cmd, line}, nil
}

// dismiss tells the watchdog that the process has ended by itself.
func (w *watchdog) dismiss() {
	_, _ = io.WriteString(w.line, "done\n")
	_ = w.line.Close()
	_ = w.cmd.Wait()
}
