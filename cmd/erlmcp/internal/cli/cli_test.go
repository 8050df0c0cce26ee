package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"erlmcp.dev/cmd/erlmcp/internal/cli"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// run runs one command in a world where nothing else is set.
func run(t *testing.T, args []string, more func(*cli.System)) result {
	t.Helper()
	var out, errs bytes.Buffer
	s := cli.System{
		Run: func(context.Context, config.Config, []config.Role, io.Writer) error {
			return errors.New("nothing to run here")
		},
		Args: args, Environ: []string{"HOME=/home/op"}, In: strings.NewReader(""), Out: &out, Err: &errs,
	}
	if more != nil {
		more(&s)
	}
	code := cli.Main(s)
	return result{code, out.String(), errs.String()}
}

// fails runs a command that must end with a code and one line that contains want.
func fails(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	r := run(t, args, nil)
	if r.code != code || !strings.Contains(r.err, want) || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "erlmcp: ") {
		t.Errorf("erlmcp %s ended with %d and %q; want %d and one line with %q", strings.Join(args, " "), r.code, r.err, code, want)
	}
}

func TestWrongUsageEndsWithTwoAndOneLine(t *testing.T) {
	fails(t, 2, `unknown command "upp"; did you mean erlmcp up?`, "upp")
	fails(t, 2, `unknown command "lsit"; did you mean erlmcp servers list?`, "servers", "lsit")
	fails(t, 2, "erlmcp servers needs a command; see erlmcp servers --help", "servers")
	fails(t, 2, "unknown flag: --prot; see erlmcp up --help", "up", "--prot", "1")
	fails(t, 2, `erlmcp up takes no argument, but got "now"`, "up", "now")
	fails(t, 2, `"ports.api" is not KEY=VALUE`, "up", "--set", "ports.api")
	fails(t, 2, "erlmcp import needs a FILE", "import")
	fails(t, 2, `--role "router" is none of`, "config", "check", "--role", "router")
	fails(t, 2, `--output "xml" is neither table nor json`, "servers", "list", "-o", "xml")
	fails(t, 2, "give one of --url, --grpc, and a command", "servers", "add", "a")
	fails(t, 2, "give one of --url, --grpc, and a command", "servers", "add", "a", "--url", "http://a/", "--", "b")
	fails(t, 2, "--env does not fit", "servers", "add", "a", "--url", "http://a/", "--env", "A=b")
	fails(t, 2, "--header number 1 is not NAME:VALUE", "servers", "add", "a", "--url", "http://a/", "--header", "secret")
	fails(t, 2, `--calls "fast" is neither`, "servers", "add", "a", "--grpc", "a:1", "--calls", "fast")
	fails(t, 2, `--role "root" is none of`, "keys", "create", "alice", "--role", "root")
	fails(t, 2, "the arguments are no JSON object", "tools", "call", "echo", "[1]")
	fails(t, 2, "--limit 0 is not positive", "sessions", "list", "--limit", "0")
}

func TestFailuresEndWithOneAndOneLine(t *testing.T) {
	fails(t, 1, "nothing to run here", "up")
	fails(t, 1, "there is no setting ports.htpp; did you mean ports.http?", "up", "--set", "ports.htpp=1")
	fails(t, 1, `--port: "eighty" is no port`, "up", "--port", "eighty")
	fails(t, 1, "ERLANG_COOKIE: not set, and the role gateway shares it", "gateway")
	fails(t, 1, "no such file", "import", "/nowhere.json")
	fails(t, 1, `--config: there is no file "/nowhere.yaml"`, "config", "check", "-c", "/nowhere.yaml")
	fails(t, 1, "start erlmcp there, or give its --addr", "nodes", "--addr", "127.0.0.1:1")
	fails(t, 1, "nothing listens at 127.0.0.1:1", "ping", "--health-addr", "127.0.0.1:1")
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, args := range []string{
		"", "up", "gateway", "session", "registry", "metrics", "config", "config check", "config docs", "import", "version",
		"ping", "status", "getpid", "stop", "memory", "servers", "servers list", "servers add", "servers remove", "servers refresh",
		"keys", "keys create", "keys list", "keys revoke", "sessions", "sessions list", "sessions show", "sessions close",
		"tools", "tools list", "tools call", "nodes",
	} {
		r := run(t, append(strings.Fields(args), "--help"), nil)
		if r.code != 0 || !strings.Contains(r.out, "Examples:\n  ") || !strings.Contains(r.out, "Usage:") || r.err != "" {
			t.Errorf("erlmcp %s --help: code %d, %q\n%s", args, r.code, r.err, r.out)
		}
	}
	if r := run(t, nil, nil); r.code != 0 || !strings.Contains(r.out, "Run everything in one process") {
		t.Errorf("erlmcp: code %d\n%s", r.code, r.out)
	}
	if r := run(t, []string{"completion", "bash"}, nil); r.code != 0 || !strings.Contains(r.out, "__start_erlmcp") {
		t.Errorf("completion: code %d", r.code)
	}
}

func TestRolesGetTheirSettings(t *testing.T) {
	for command, want := range map[string]string{
		"up": "[gateway session registry metrics] 9101", "foreground": "[gateway session registry metrics] 9101",
		"registry": "[registry] 9103",
	} {
		var got, warnings string
		r := run(t, []string{command, "--log-level", "warn", "--set", "limits.max_body=1MiB", "--node", "n@h"}, func(s *cli.System) {
			s.Environ = append(s.Environ, "ERLANG_COOKIE=0123456789abcdef0123456789abcdef", "ERL_AFLAGS=+P 1")
			s.Run = func(_ context.Context, cfg config.Config, roles []config.Role, out io.Writer) error {
				got = fmt.Sprint(roles, " ", cfg.Ports.GRPC)
				warnings = fmt.Sprint(cfg.Warnings)
				_, err := fmt.Fprint(out, cfg.Log.Level, " ", cfg.Limits.MaxBody, " ", cfg.Node)
				return err
			}
		})
		if r.code != 0 || got != want || r.out != "warn 1MiB n@h" {
			t.Errorf("%s: code %d, %q %q %q, want %q", command, r.code, got, r.out, r.err, want)
		}
		if !strings.Contains(warnings, "ERL_AFLAGS: +P") || r.err != "" { // they are for the log
			t.Errorf("%s: the warnings are %s; beside the log it says %q", command, warnings, r.err)
		}
	}
}

func TestSignalEndsARoleInGoodOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		r := run(t, []string{"up"}, func(s *cli.System) {
			s.Run = func(ctx context.Context, _ config.Config, _ []config.Role, out io.Writer) error {
				if err := syscall.Kill(os.Getpid(), sig); err != nil {
					return err
				}
				<-ctx.Done()
				_, err := fmt.Fprint(out, "drained")
				return err
			}
		})
		if r.code != 0 || r.out != "drained" {
			t.Errorf("%v: code %d, %q %q", sig, r.code, r.out, r.err)
		}
	}
}

func TestConfigCheckShowsOriginsAndNoSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "erlmcp.yaml")
	if err := os.WriteFile(file, []byte("log: {level: debug}\nservers: [{name: a, grpc: 'a:1'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, []string{"config", "check", "--config", file, "--port", "0"}, func(s *cli.System) {
		s.Environ = append(s.Environ, "ERLMCP_DB_PASSWORD=hunter2")
	})
	for _, want := range []string{"ports.api", "0 ", "flag --port", "env ERLMCP_DB_PASSWORD", "file " + file + ":1", "***", "a       grpc  a:1"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r.code != 0 || strings.Contains(r.out, "hunter2") {
		t.Errorf("code %d, %s\n%s", r.code, r.err, r.out)
	}
}

// stop runs `stop` against a process of that name.
func stop(t *testing.T, name string) (r result, ended string) {
	t.Helper()
	child := exec.Command("sleep", "300")
	child.Args[0] = name
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() bool { // its name is there a moment after it has started
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child.Process.Pid))
		return err != nil || len(line) > 0
	}, 10*time.Second)
	gone := make(chan error, 1)
	go func() { gone <- child.Wait() }()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"pid": %d}`, child.Process.Pid)
	}))
	defer srv.Close()
	r = run(t, []string{"stop", "--health-addr", strings.TrimPrefix(srv.URL, "http://")}, nil)
	if r.code != 0 {
		_ = child.Process.Kill()
	}
	return r, fmt.Sprint(<-gone)
}

func TestStopWaitsUntilTheProcessIsGone(t *testing.T) {
	if r, ended := stop(t, "/opt/erlmcp/bin/erlmcp"); r.code != 0 || ended != "signal: terminated" {
		t.Errorf("%+v; the process ended with %s", r, ended)
	}
}

func TestStopLeavesOtherProcessesAlone(t *testing.T) {
	if r, ended := stop(t, "postgres"); r.code != 1 || !strings.Contains(r.err, "is no erlmcp") || ended != "signal: killed" {
		t.Errorf("%+v; the process ended with %s", r, ended)
	}
}

func TestMemoryShowsTheMetrics(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# HELP erlmcp_memory_total x\nerlmcp_memory_total 42\nerlmcp_up 1\nerlmcp_process_count 7\n")
	}))
	defer srv.Close()
	r := run(t, []string{"memory", "--health-addr", strings.TrimPrefix(srv.URL, "http://")}, nil)
	if r.code != 0 || r.out != "METRIC                VALUE\nerlmcp_memory_total   42\nerlmcp_process_count  7\n" {
		t.Errorf("%+v", r)
	}
}

func TestImportReadsAndWrites(t *testing.T) {
	r := run(t, []string{"import", "-"}, func(s *cli.System) {
		s.In = strings.NewReader(`{"mcpServers": {"Files": {"command": "fs"}}}`)
	})
	if r.code != 0 || r.out != "servers:\n  - name: files\n    command: [fs]\n" || r.err != "note: \"Files\" is named files here\n" {
		t.Errorf("%+v", r)
	}
}

func TestVersionTellsTheBuild(t *testing.T) {
	for _, command := range []string{"version", "versions"} {
		if r := run(t, []string{command}, nil); r.code != 0 || !strings.HasPrefix(r.out, "erlmcp 3.") {
			t.Errorf("%+v", r)
		}
	}
}

func TestHealthCommandsAskTheHealthPort(t *testing.T) {
	health := http.StatusOK
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(health)
		_, _ = io.WriteString(w, `{"status":"unhealthy"}`)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"pid": 1234567, "node": "n@h", "ports": {"api": 8080}}`)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	_, port, _ := strings.Cut(addr, ":")
	ask := func(args ...string) result {
		return run(t, args, func(s *cli.System) { s.Environ = append(s.Environ, "HEALTH_PORT="+port, "ERLMCP_ENV=broken") })
	}
	if r := ask("ping"); r.code != 0 || r.out != "pong\n" {
		t.Errorf("ping: %+v", r)
	}
	if r := ask("getpid", "--health-addr", addr); r.code != 0 || r.out != "1234567\n" {
		t.Errorf("getpid: %+v", r)
	}
	if r := ask("status"); r.code != 0 || r.out != "node   n@h\npid    1234567\nports\n  api  8080\n" {
		t.Errorf("status: %+v", r)
	}
	if r := ask("status", "-o", "json"); r.code != 0 || !strings.Contains(r.out, `"node": "n@h"`) {
		t.Errorf("status: %+v", r)
	}
	health = http.StatusServiceUnavailable
	if r := ask("ping"); r.code != 1 || !strings.Contains(r.err, `unhealthy (503): {"status":"unhealthy"}`) {
		t.Errorf("ping: %+v", r)
	}
}
