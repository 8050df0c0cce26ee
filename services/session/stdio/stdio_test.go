package stdio_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/stdio"
)

func sh(script string) *registryv1.StdioEndpoint {
	return &registryv1.StdioEndpoint{Command: []string{"sh", "-c", script}}
}

func TestAProgramIsAStreamOfBytes(t *testing.T) {
	var r stdio.Runner
	p, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh(`read line; echo "got $line"`)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := io.WriteString(p, "hello\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p)
	if err != nil || string(out) != "got hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestAProgramGetsItsVariablesAndNoSecretsOfOurs(t *testing.T) {
	t.Setenv("ERLMCP_CLUSTER_SECRET", "must-not-leak")
	e := sh(`env`)
	e.Env = map[string]string{"TOKEN": "its own"}
	var r stdio.Runner
	p, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: e})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, _ := io.ReadAll(p)
	if strings.Contains(string(out), "must-not-leak") || !strings.Contains(string(out), "TOKEN=its own") {
		t.Errorf("environment:\n%s", out)
	}
}

func TestCloseEndsWhatTheProgramStarted(t *testing.T) {
	var r stdio.Runner
	p, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh(`trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000`)})
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(p).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for running(child) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its program", child)
		}
	}
	if r.Running() != 0 {
		t.Errorf("%d programs count as running", r.Running())
	}
}

// running reports whether a process is there and no zombie.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTheLastLinesOfStandardErrorAreKept(t *testing.T) {
	var r stdio.Runner
	p, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh(`i=0; while [ $i -lt 100 ]; do echo "line $i" >&2; i=$((i+1)); done`)})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	p.Close()
	if got := p.Stderr(); !strings.HasSuffix(got, "line 99") || strings.Contains(got, "line 89\n") {
		t.Errorf("got %q", got)
	}
}

func TestLimitsHoldForEachPrincipalAndInAll(t *testing.T) {
	r := stdio.Runner{MaxPrograms: 2, MaxPerPrincipal: 1}
	a, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh("cat")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh("cat")}); !errors.Is(err, stdio.ErrFull) {
		t.Errorf("a second program of one principal: %v", err)
	}
	b, err := r.Start(stdio.Program{Server: "s", Principal: "bob", Endpoint: sh("cat")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(stdio.Program{Server: "s", Principal: "carol", Endpoint: sh("cat")}); !errors.Is(err, stdio.ErrFull) {
		t.Errorf("a third program: %v", err)
	}
	a.Close()
	c, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: sh("cat")})
	if err != nil {
		t.Errorf("after one ended: %v", err)
	}
	b.Close()
	c.Close()
}

func TestAProgramThatIsNotThereSaysSo(t *testing.T) {
	var r stdio.Runner
	_, err := r.Start(stdio.Program{Server: "s", Principal: "alice", Endpoint: &registryv1.StdioEndpoint{Command: []string{"no-such-program-here"}}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program-here") || r.Running() != 0 {
		t.Errorf("got %v, %d running", err, r.Running())
	}
}

// Watchdogs are this test's own program.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "watchdog" {
		if err := stdio.Watch(os.Stdin, os.Args[2]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// What a program started dies with it, though it left the process group.
func TestAProgramsEndEndsWhoLeftItsGroup(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := stdio.Runner{Watchdog: []string{self, "watchdog"}}
	defer r.Close()
	p, err := r.Start(stdio.Program{Server: "s", Endpoint: sh(`setsid sh -c 'echo $$; exec sleep 1000' & read line; exit 0`)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	line, err := bufio.NewReader(p).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	left, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "end\n"); err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	deadline := time.Now().Add(5 * time.Second)
	for running(left) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its program", left)
		}
	}
}

func TestAWatchdogIsForPrograms(t *testing.T) {
	for _, mark := range []string{"", "HOME=/", "_ERLMCP_PROGRAM="} {
		if err := stdio.Watch(strings.NewReader(""), mark); err == nil {
			t.Errorf("it would end all processes with %q", mark)
		}
	}
}
