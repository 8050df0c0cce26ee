package stdio

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The watchdog is a process beside this one that outlives it for as long as it takes to end its programs. It knows
// that this process is gone when the pipe between them is closed, which the kernel does however a process ends. This
// process tells it each program's process group. A program that left its group is found, on Linux, by a variable that
// all programs and what they start have in their environment. Out of reach is only who both left the group and cleared
// its environment; on other systems, who left the group.

// markName is the variable; its value is the Runner's random name, and the program's number behind it. It does not begin
// with ERLMCP_, since a program may be erlmcp, which refuses such variables that it does not know.
const markName = "_ERLMCP_PROGRAM="

type watchdog struct {
	command []string
	mark    string // begins the marks of all programs

	mu      sync.Mutex
	groups  map[int]bool   // process groups of running programs
	line    io.WriteCloser // nil while it does not run
	closed  bool
	waiting sync.WaitGroup
}

// run starts the watchdog if it does not run.
func (w *watchdog) run() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.line != nil || len(w.command) == 0 || w.closed {
		return nil
	}
	c := exec.Command(w.command[0], append(w.command[1:len(w.command):len(w.command)], w.mark)...)
	c.Env = []string{} // it needs none, and must not hold secrets
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	line, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return fmt.Errorf("starting the watchdog of programs: %w", err)
	}
	started := time.Now()
	w.line = line
	for pid := range w.groups {
		w.tell('+', pid)
	}
	w.waiting.Go(func() {
		_ = c.Wait()
		w.mu.Lock()
		w.line = nil
		again := !w.closed && len(w.groups) > 0 && time.Since(started) > time.Second
		w.mu.Unlock()
		if again {
			_ = w.run() // else the next program's start says why not
		}
	})
	return nil
}

// tell says to the watchdog what a process group does; mu is held. One that does not hear has ended, and its
// successor is told of all.
func (w *watchdog) tell(sign byte, pid int) {
	if w.line != nil {
		_, _ = fmt.Fprintf(w.line, "%c%d\n", sign, pid)
	}
}

func (w *watchdog) add(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups[pid] = true
	w.tell('+', pid)
}

func (w *watchdog) remove(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.groups, pid)
	w.tell('-', pid)
}

// close ends the watchdog and waits for it.
func (w *watchdog) close() {
	w.mu.Lock()
	w.closed = true
	if w.line != nil {
		_ = w.line.Close()
	}
	w.mu.Unlock()
	w.waiting.Wait()
}

// Watch is the watchdog's side: it reads in until that ends, because the process that writes there is gone or has
// ended all its programs, and then kills what is left of them. mark is the argument that a Runner gave.
func Watch(in io.Reader, mark string) error {
	if !strings.HasPrefix(mark, markName) || len(mark) < len(markName)+16 {
		return fmt.Errorf("%q is not what a process gives its watchdog; this command is not for people", mark)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	groups := map[int]bool{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		sign, number, ok := cutSign(lines.Text())
		if ok {
			groups[number] = sign == '+'
		}
	}
	for pid, runs := range groups {
		if runs {
			killGroup(pid, syscall.SIGKILL)
		}
	}
	killMarked(mark)
	return nil
}

func cutSign(line string) (sign byte, number int, ok bool) {
	if line == "" {
		return 0, 0, false
	}
	number, err := strconv.Atoi(line[1:])
	return line[0], number, err == nil && number > 1
}

func killGroup(pid int, signal syscall.Signal) { _ = syscall.Kill(-pid, signal) }
