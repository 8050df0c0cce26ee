package testkit

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startWithin bounds a start whose context has no deadline.
const startWithin = 30 * time.Second

//go:embed warden.sh
var wardenScript string

// program is what differs between the kinds of server.
type program struct {
	name string
	// user runs the server; nil for the present user.
	user *syscall.Credential
	// prepare makes the data in dir before the first start; may be nil.
	prepare func(ctx context.Context, dir string) error
	// command is the server's command line for a directory and a port on 127.0.0.1.
	command func(dir string, port int) []string
	// ready asks the server on address whether it serves; pid tells it from another's server on that port.
	ready func(ctx context.Context, address string, pid int) error
	// stop is the signal for an orderly end; abandon is the one used when this process died.
	stop, abandon string
	dsn           func(address string) string
}

// Server is a private server process on 127.0.0.1. It ends with this process, however that ends, because a
// small shell (warden.sh) stands between the two and waits for this process's end of a pipe to close. The
// kernel's parent-death signal is not used: it follows the thread that forked, and threads of a Go program
// may end before the program. A Server holds no goroutine. Its methods are not safe for concurrent use.
type Server struct {
	program program
	dir     string
	ownDir  bool
	port    int

	warden *exec.Cmd
	line   io.WriteCloser // to the warden; nil while the server does not run
	pid    int
}

// newServer starts p in dir, or where dir is empty in a temporary directory that goes with the server. ctx
// bounds the start only.
func newServer(ctx context.Context, p program, dir string) (*Server, error) {
	s := &Server{program: p, dir: dir}
	if dir == "" {
		temporary, err := os.MkdirTemp("", "erlmcp-"+p.name+"-")
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		s.dir, s.ownDir = temporary, true
	}
	err := s.prepare(ctx)
	// The port is free when asked for, not when the server binds it: another process may have been quicker.
	for attempt := 0; err == nil && attempt < 5; attempt++ {
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.Start(ctx); err == nil {
			return s, nil
		}
		if errors.Is(err, errEnded) && ctx.Err() == nil {
			err = nil
		}
	}
	if err == nil {
		err = fmt.Errorf("start %s: it ended at each attempt: %s", p.name, s.logTail())
	}
	if s.ownDir {
		_ = os.RemoveAll(s.dir)
	}
	return nil, err
}

func (s *Server) prepare(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("start %s: %w", s.program.name, err)
	}
	var err error
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return fmt.Errorf("start %s: %w", s.program.name, err)
	}
	if user := s.program.user; user != nil {
		if err := os.Chown(s.dir, int(user.Uid), int(user.Gid)); err != nil {
			return fmt.Errorf("start %s: give %s to its user: %w", s.program.name, s.dir, err)
		}
		for up := filepath.Dir(s.dir); up != "/"; up = filepath.Dir(up) {
			if stat, err := os.Stat(up); err != nil || stat.Mode()&0o001 == 0 {
				return fmt.Errorf("start %s: it does not run as root, and its user can't enter %s: choose another directory, or none", s.program.name, up)
			}
		}
	}
	if s.program.prepare == nil {
		return nil
	}
	return s.program.prepare(ctx, s.dir)
}

// errEnded: the server ended before it served.
var errEnded = errors.New("it ended before it served")

// Start starts a server that was stopped or killed, on the address and with the data it had. It returns
// when the server serves.
func (s *Server) Start(ctx context.Context) error {
	if s.line != nil {
		return fmt.Errorf("start %s: it runs already", s.program.name)
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := s.launch(); err != nil {
		return fmt.Errorf("start %s: %w", s.program.name, err)
	}
	var err error
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if err = s.program.ready(ctx, s.Address(), s.pid); err == nil {
			return nil
		}
		if ended(s.pid) {
			err = errEnded
			break
		}
		if pause(ctx, wait) != nil {
			err = fmt.Errorf("it does not serve: %w", err)
			break
		}
	}
	s.end("KILL")
	return fmt.Errorf("start %s: %w; its log ends: %s", s.program.name, err, s.logTail())
}

// launch starts the warden, which starts the server, and learns the server's process id.
func (s *Server) launch() error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer told.Close()
	defer tell.Close()
	heard, line, err := os.Pipe()
	if err != nil {
		return err
	}
	defer heard.Close()

	remove := ""
	if s.ownDir {
		remove = s.dir
	}
	args := append([]string{"-c", wardenScript, "warden", s.program.abandon, remove}, s.program.command(s.dir, s.port)...)
	warden := exec.Command("/bin/sh", args...)
	warden.Dir = s.dir
	warden.Stdin, warden.Stdout, warden.Stderr = heard, log, log
	warden.ExtraFiles = []*os.File{tell}
	// A session of its own: an interrupt typed at a terminal must not reach it, nor the hang-up that the kernel
	// sends to a group with a frozen process in it when the group's parent, which is the test, dies.
	warden.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.program.user}
	if err := warden.Start(); err != nil {
		line.Close()
		return err
	}
	tell.Close()
	s.warden, s.line = warden, line
	first, err := bufio.NewReader(told).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(first))
	}
	if err != nil {
		s.end("KILL")
		return fmt.Errorf("learn its process id: %w", err)
	}
	return nil
}

// end tells the warden to send signal and waits until server and warden are gone. Children of a server that was
// killed go as well: they would notice its end later, or never while they are frozen, and a new server refuses
// data that they still use.
func (s *Server) end(signal string) {
	if s.line == nil {
		return
	}
	var left []int
	if signal == "KILL" {
		left = children(s.pid)
	}
	_, _ = io.WriteString(s.line, signal+"\n")
	_ = s.line.Close()
	_ = s.warden.Wait()
	for _, child := range left {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	for start := time.Now(); len(left) > 0 && time.Since(start) < 5*time.Second; {
		if ended(left[0]) {
			left = left[1:]
			continue
		}
		time.Sleep(time.Millisecond)
	}
	s.line, s.warden, s.pid = nil, nil, 0
}

// Stop ends the server in an orderly way and waits for its end. Its data stay, unless the directory was the
// server's own. Stopping twice does nothing.
func (s *Server) Stop() {
	if s.line != nil {
		s.Resume()
	}
	s.end(s.program.stop)
	if s.ownDir {
		_ = os.RemoveAll(s.dir)
	}
}

// Kill ends the server as a crash would (SIGKILL) and waits for its end. It can be started again.
func (s *Server) Kill() { s.end("KILL") }

// Pause freezes the server (SIGSTOP): connections stay open and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a frozen server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal reaches the server first and then its children, which Postgres puts in sessions of their own: once
// the parent is frozen it makes no further ones.
func (s *Server) signal(signal syscall.Signal) {
	if s.pid == 0 {
		return
	}
	_ = syscall.Kill(s.pid, signal)
	for _, child := range children(s.pid) {
		_ = syscall.Kill(child, signal)
	}
}

// Address is the server's host:port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// DSN is the URL that clients of this kind of server take.
func (s *Server) DSN() string { return s.program.dsn(s.Address()) }

// PID is the server's process id; 0 while it does not run.
func (s *Server) PID() int { return s.pid }

func (s *Server) logFile() string { return filepath.Join(s.dir, s.program.name+".log") }

// logTail is the end of the server's log, for messages.
func (s *Server) logTail() string {
	const most = 2000
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(log[max(0, len(log)-most):]))
}
