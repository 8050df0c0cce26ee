package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
)

// log is what a process wrote: kept in a file, so that it is bounded by the disk only, and read from there.
type log struct {
	path  string
	mu    sync.Mutex
	file  *os.File
	grown chan struct{} // closed and replaced at each write
	start int64         // where this start's output begins in the file
}

func openLog(path string) (*log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &log{path: path, file: file, grown: make(chan struct{}), start: info.Size()}, nil
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(b)
	close(l.grown)
	l.grown = make(chan struct{})
	return n, err
}

func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Close()
}

func (l *log) text() string {
	all, err := os.ReadFile(l.path)
	if err != nil {
		return err.Error()
	}
	return string(all[min(l.start, int64(len(all))):])
}

// tail is the end of the log, for messages.
func (l *log) tail() string {
	const most = 3000
	text := l.text()
	return text[max(0, len(text)-most):]
}

func (l *log) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// WaitLog waits until the process has written something that matches, and gives the match and its groups. It
// fails when the process ends first.
func (p *Process) WaitLog(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		grown := p.log.next()
		if found := pattern.FindStringSubmatch(p.log.text()); found != nil {
			return found, nil
		}
		select {
		case <-grown:
		case <-p.exited:
			if found := pattern.FindStringSubmatch(p.log.text()); found != nil {
				return found, nil
			}
			return nil, fmt.Errorf("%s ended without writing %q", p.program.Name, pattern)
		case <-ctx.Done():
			return nil, fmt.Errorf("%s has not written %q: %w", p.program.Name, pattern, ctx.Err())
		}
	}
}

// ReadyLog is a [Program.Ready] that waits for a line of the log.
func ReadyLog(pattern *regexp.Regexp) func(context.Context, *Process) error {
	return func(ctx context.Context, p *Process) error {
		_, err := p.WaitLog(ctx, pattern)
		return err
	}
}

// ReadyPort is ready once something on 127.0.0.1 takes connections at a port.
func ReadyPort(port int) func(context.Context, *Process) error {
	return func(ctx context.Context, _ *Process) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", Address(port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
