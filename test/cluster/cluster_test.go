package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/shared/testkit"
)

// patience is for what happens at once on an idle machine.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv("CLUSTER_TEST_ORPHAN") != "" {
		orphan()
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") { // a role
		fake()
	}
	goleak.VerifyTestMain(m)
}

// shell is a program that runs a script, as far as the script goes.
func shell(script string) Program {
	return Program{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}}
}

func TestProgramThatEndsBeforeItIsReadyFailsItsStart(t *testing.T) {
	program := shell("echo no good; exit 3")
	program.Dir = t.TempDir()
	program.Ready = ReadyLog(regexp.MustCompile("never"))
	_, err := Start(t.Context(), program)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no good") {
		t.Errorf("got %v, want its exit status and log", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	program := shell("exec sleep 60")
	program.Dir = t.TempDir()
	program.Ready = func(context.Context, *Process) error { return errors.New("not yet") }
	if _, err := Start(ctx, program); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("got %v, want the deadline and the last answer", err)
	}
}

func TestStopLetsAProgramEndItself(t *testing.T) {
	program := shell(`trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done`)
	program.Ready = ReadyLog(regexp.MustCompile("up"))
	p := Run(t, program)
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(p.Log(), "bye") {
		t.Errorf("it did not get to its end: %q", p.Log())
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	program := shell(`trap '' TERM; echo up; while :; do sleep 0.01; done`)
	program.Ready = ReadyLog(regexp.MustCompile("up"))
	p := Run(t, program)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
}

func TestKilledProgramRestartsWithItsOwnLog(t *testing.T) {
	program := shell("echo run $$; exec sleep 60")
	program.Ready = ReadyLog(regexp.MustCompile(`run \d+`))
	p := Run(t, program)
	first := p.PID()
	if err := p.Restart(t.Context()); err == nil {
		t.Error("it restarted while it was running")
	}
	p.Kill()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.PID() == first || p.Log() != fmt.Sprintf("run %d\n", p.PID()) {
		t.Errorf("second run: pid %d after %d, log %q", p.PID(), first, p.Log())
	}
}

func TestPausedProgramDoesNothingUntilResumed(t *testing.T) {
	program := shell("while :; do echo tick; sleep 0.01; done")
	program.Ready = ReadyLog(regexp.MustCompile("tick"))
	p := Run(t, program)
	p.Pause()
	testkit.Eventually(t, func() error { return state(p.PID(), 'T') }, patience)
	p.Resume()
	testkit.Eventually(t, func() bool { return state(p.PID(), 'T') != nil }, patience)
}

func state(pid int, want byte) error {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if got := line[strings.LastIndexByte(string(line), ')')+2]; got != want {
		return fmt.Errorf("state %c, want %c", got, want)
	}
	return nil
}

// orphan starts a program, tells its id and waits to be killed.
func orphan() {
	dir, err := os.MkdirTemp("", "erlmcp-orphan-")
	if err != nil {
		panic(err)
	}
	program := shell("exec sleep 60")
	program.Dir = dir
	p, err := Start(context.Background(), program)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	select {}
}

func TestProgramDoesNotOutliveAKilledTest(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CLUSTER_TEST_ORPHAN=1", "TMPDIR="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed: always an error
	testkit.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil || state(pid, 'Z') == nil }, patience)
}

func TestBalancerTakesTurnsAndPassesOverTheDead(t *testing.T) {
	var targets []*Target
	for i := range 2 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%d %s", i, r.Host)
		}))
		defer server.Close()
		targets = append(targets, &Target{Address: server.Listener.Addr().String()})
	}
	dead, err := FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Balance(append(targets, &Target{Address: Address(dead[0])})...)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	answered := map[string]int{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 12 {
		resp, err := client.Get("http://" + b.Address())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %v", resp.StatusCode, err)
		}
		answered[string(body)]++
	}
	for i := range 2 {
		if n := answered[fmt.Sprintf("%d %s", i, b.Address())]; n < 4 {
			t.Errorf("target %d answered %d of 12 requests under the client's own host: %v", i, n, answered)
		}
	}
}

func TestFreePortsAreGivenOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		ports, err := FreePorts(5)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ports {
			if seen[p] {
				t.Fatalf("port %d was given twice", p)
			}
			seen[p] = true
		}
	}
}

func TestBalancerPassesOverWhatIsNotReady(t *testing.T) {
	var targets []*Target
	var ready [2]atomic.Bool
	for i := range 2 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ready" && !ready[i].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, i)
		}))
		defer server.Close()
		address := server.Listener.Addr().String()
		targets = append(targets, &Target{Address: address, Health: address})
	}
	b, err := Balance(targets...)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	answers := func() (seen [2]bool, err error) {
		for range 4 {
			resp, err := http.Get("http://" + b.Address())
			if err != nil {
				return seen, err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				return seen, fmt.Errorf("%d %s: %w", resp.StatusCode, body, err)
			}
			seen[body[0]-'0'] = true
		}
		return seen, nil
	}
	for _, now := range [][2]bool{{true, false}, {false, true}, {true, true}} {
		ready[0].Store(now[0])
		ready[1].Store(now[1])
		testkit.Eventually(t, func() error {
			if seen, err := answers(); err != nil || seen != now {
				return fmt.Errorf("with %v ready %v answered: %w", now, seen, err)
			}
			return nil
		}, patience)
	}
}
