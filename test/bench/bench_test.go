package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server of this test and counts this process's work as its own.
func serve(t *testing.T, h http.Handler) (Target, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	counts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		fmt.Fprintf(w, "# TYPE x counter\n%s %e\n", mallocsName, float64(stats.Mallocs))
	}))
	t.Cleanup(counts.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return Target{
		Name:    "direct",
		URLs:    map[Era]string{Modern: server.URL + ModernPath, Legacy: server.URL + LegacyPath},
		Watched: []Watched{{PID: os.Getpid(), Metrics: counts.URL}},
	}, server
}

func short(targets ...Target) Plan {
	return Plan{Targets: targets, Cases: Cases(), Clients: []int{1, 3}, Rounds: 2, Round: 20 * time.Millisecond}
}

func TestEveryCaseIsMeasuredWithoutErrors(t *testing.T) {
	direct, server := serve(t, Upstream())
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxied, _ := serve(t, Proxy(at))
	proxied.Name = "proxy"
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	plan := short(direct, proxied)
	all, err := plan.Run(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(plan.Cases) * len(plan.Clients) * 2; len(all) != want {
		t.Fatalf("%d measurements, want %d", len(all), want)
	}
	for _, m := range all {
		if m.Errors.total() != 0 || len(m.Took) == 0 || m.CPU <= 0 || m.Mallocs <= 0 {
			t.Errorf("%s, %d clients, %s: %d calls, CPU %v, %f allocations, errors %v", m.Case, m.Clients, m.Target, len(m.Took), m.CPU, m.Mallocs, m.Errors.lines())
		}
	}
	if Failed(all) {
		t.Error("it says that calls failed")
	}
	report := Markdown(all, "proxy", "bench")
	if !strings.Contains(report, "| tools/list, legacy | 3 | proxy |") {
		t.Errorf("the report lacks a row:\n%s", report)
	}
}

func TestWrongAnswersAreErrors(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) },
		"another's answer": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1000000001,"result":{"content":[{"type":"text","text":"hello 9999999999"}]}}`)
		},
		"closed connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			target, _ := serve(t, h)
			plan := short(target)
			plan.Cases, plan.Clients = []Case{{Modern, "tools/call"}}, []int{2}
			all, err := plan.Run(t.Context(), func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			if !Failed(all) || len(all[0].Took) != 0 {
				t.Errorf("%d calls passed, %d failed", len(all[0].Took), all[0].Errors.total())
			}
			if report := Markdown(all, "proxy", "bench"); !strings.Contains(report, "Errors of tools/call, modern, 2 clients, through direct: ") {
				t.Errorf("the report does not say why:\n%s", report)
			}
		})
	}
}

func TestChangedListIsAnError(t *testing.T) {
	check := &checker{method: "tools/list"}
	list := func(id, tools string) response {
		return response{status: 200, body: []byte(`{"jsonrpc":"2.0","id":` + id + `,"result":{"tools":` + tools + `}}`)}
	}
	whole := string(toolList())
	if err := check.check(list("1000000000", "[]"), 1000000000); err == nil {
		t.Error("an empty list was accepted")
	}
	for id := 1000000000; id < 1000000003; id++ {
		if err := check.check(list(fmt.Sprint(id), whole), uint64(id)); err != nil {
			t.Error(err)
		}
	}
	for name, r := range map[string]response{
		"other id":      list("1000000004", whole),
		"other content": list("1000000003", strings.Replace(whole, "record_0500", "record_0501", 1)),
		"shorter":       list("1000000003", strings.Replace(whole, "record_0500", "record_500", 1)),
	} {
		if check.check(r, 1000000003) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnswersInEveryFraming(t *testing.T) {
	const message = `{"jsonrpc":"2.0","id":1,"result":{}}`
	events := "id: 0\ndata: \n\nevent: message\ndata: " + message + "\n\n"
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\ncontent-length: 36\r\n\r\n" + message,
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + message[:16] + "\r\n14\r\n" + message[16:] + "\r\n0\r\n\r\n",
		"events": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(events), events),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAnswer(answer)
			if err != nil || string(got.body) != message || got.status != 200 {
				t.Errorf("got %d %q, %v", got.status, got.body, err)
			}
		})
	}
	for name, answer := range map[string]string{
		"cut off":      "HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{",
		"no length":    "HTTP/1.1 200 OK\r\n\r\n",
		"closing":      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"not HTTP":     "220 mail.example.com ESMTP\r\n\r\n",
		"too long":     "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
		"broken chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readAnswer(answer); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func readAnswer(answer string) (response, error) {
	here, there := net.Pipe()
	go func() {
		_, _ = io.WriteString(there, answer)
		_ = there.Close()
	}()
	defer here.Close()
	return newConn(here).read()
}

func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n5\r\ndata:\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, answer string) {
		if got, err := readAnswer(answer); err == nil && len(got.body) > len(answer) {
			t.Errorf("%d bytes of body out of %d", len(got.body), len(answer))
		}
	})
}

func TestCPUClockCountsThisProcess(t *testing.T) {
	self := Watched{PID: os.Getpid()}
	got, err := self.CPU()
	if err != nil {
		t.Fatal(err)
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	want := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	if got <= 0 || (want-got).Abs() > 200*time.Millisecond {
		t.Errorf("the clock says %v, getrusage %v", got, want)
	}
	if _, err := (Watched{PID: 1 << 22}).CPU(); err == nil {
		t.Error("a process that is not there has a clock")
	}
}

func TestServeEndsWithItsContextAndTellsAllocations(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := freeAddresses(t, 2)
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, address[0], address[1], Upstream()) }()
	watched := Watched{PID: os.Getpid(), Metrics: "http://" + address[1] + "/metrics"}
	testkit.Eventually(t, func() error {
		n, err := watched.Mallocs(ctx)
		if err == nil && n == 0 {
			err = errors.New("no allocations")
		}
		return err
	}, 10*time.Second)
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func freeAddresses(t *testing.T, n int) (found []string) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		found = append(found, listener.Addr().String())
	}
	return found
}

func TestReportReplacesOnlyItsPart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, []byte("# Before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Replace(file, "bench", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "# Before\n<!-- bench: begin -->\nnew\n<!-- bench: end -->\nafter\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(file, []byte("no place"), 0o644); err != nil {
		t.Fatal(err)
	}
	if Replace(file, "bench", "new") == nil {
		t.Error("a document without markers was accepted")
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	var errs tally
	for i := range 20 {
		errs.add(fmt.Errorf("read 127.0.0.1:%d: status 503", 10000+i))
	}
	if got := errs.lines(); len(got) != 1 || got[0] != "20 times: read 127.0.0.1:N: status 503" {
		t.Errorf("got %q", got)
	}
	for i := range 100 {
		errs.add(fmt.Errorf("kind %c%c", 'a'+i%26, 'a'+i/26))
	}
	if len(errs) > kinds+1 || errs.total() != 120 {
		t.Errorf("%d kinds, %d errors", len(errs), errs.total())
	}
}
