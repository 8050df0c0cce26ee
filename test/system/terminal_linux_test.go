package system

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// terminal opens a terminal and gives its path, and a function that reads what is on it so far.
func terminal(t *testing.T) (path string, screen func() string) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := user.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	var failed error
	if err := conn.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	path = fmt.Sprint("/dev/pts/", number)
	held, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0) // it stays while nobody else has it open
	if err != nil {
		t.Fatal(err)
	}
	text, done := &written{}, make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(text, user) // ends with the terminal
	}()
	t.Cleanup(func() {
		_ = held.Close()
		<-done
		_ = user.Close()
	})
	return path, func() string { return strings.ReplaceAll(text.String(), "\r\n", "\n") }
}

// People at a terminal get words and text; JSON where they ask for it.
func TestATerminalGetsText(t *testing.T) {
	for format, x := range map[string]struct{ first, has, hasNot []string }{
		"":     {[]string{"  MCP      http://127.0.0.1:", "Ready. Try:\n\n  curl -s http://127.0.0.1:"}, []string{"msg=stopping"}, []string{`"msg"`}},
		"json": {[]string{`"msg":"ready"`}, []string{`"msg":"stopping"`}, []string{"  MCP      ", "msg="}},
	} {
		path, screen := terminal(t)
		up := cluster.RunUp(t, cluster.Erlmcp{Binary: redirected(t, ">"+path), Env: []string{"ERLMCP_LOG_FORMAT=" + format}})
		shows := func(all []string) {
			testkit.Eventually(t, func() error {
				for _, words := range all {
					if !strings.Contains(screen(), words) {
						return fmt.Errorf("format %q: the terminal lacks %q: %s", format, words, screen())
					}
				}
				return nil
			}, 20*time.Second)
		}
		shows(x.first)
		if err := up.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		shows(x.has)
		for _, words := range x.hasNot {
			if strings.Contains(screen(), words) {
				t.Errorf("format %q: the terminal has %q: %s", format, words, screen())
			}
		}
	}
}
