package metrics_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/usage"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// reporter is a process that reports, until it is killed: it prints the id of each audit event that it recorded.
func reporter(t *testing.T, addr, dir string) {
	c := dial(t, addr)
	a, err := usage.NewAuditor(usage.AuditorConfig{Client: c, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = a.Run(context.Background()) }() // nothing ends it but the kill
	for {
		id := uuid.Must(uuid.NewV7()).String()
		a.Record(t.Context(), &metricsv1.AuditEvent{Id: id, At: timestamppb.Now()})
		fmt.Println("recorded", id)
	}
}

// TestNoAcceptedAuditEventIsLostThoughReporterAndServiceAreKilled has reporters killed at random moments, while the
// service is stopped in the midst of calls and started again.
func TestNoAcceptedAuditEventIsLostThoughReporterAndServiceAreKilled(t *testing.T) {
	if addr := os.Getenv("METRICS_TEST_ADDR"); addr != "" {
		reporter(t, addr, os.Getenv("METRICS_TEST_DIR"))
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	each(t, func(t *testing.T, s store.Store) {
		service, dir := metrics.New(metrics.Config{Store: s}), t.TempDir()
		addr, stop := listen(t, service, "127.0.0.1:0")
		recorded := map[string]bool{}
		for life := range 6 {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+name+"$")
			child.Env = append(os.Environ(), "METRICS_TEST_ADDR="+addr, "METRICS_TEST_DIR="+dir)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			most, restart := 20+rand.IntN(80), rand.IntN(20)
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); n++ {
				if id, ok := strings.CutPrefix(lines.Text(), "recorded "); ok && len(id) == 36 {
					recorded[id] = true
				}
				switch n {
				case restart:
					stop()
					if life%2 == 0 { // else it stays away until the reporter is dead
						_, stop = listen(t, service, addr)
					}
				case most:
					if err := child.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = child.Wait() // it was killed
			if life%2 == 1 {
				_, stop = listen(t, service, addr)
			}
		}
		last, err := usage.NewAuditor(usage.AuditorConfig{Client: dial(t, addr), Dir: dir, Log: testkit.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- last.Run(ctx) }()
		kept := map[string]int{}
		testkit.Eventually(t, func() bool {
			clear(kept)
			for before := ""; ; {
				page := must(s.Events(t.Context(), before, 1000))(t)
				for _, e := range page {
					kept[e.ID]++
					before = e.ID
				}
				if len(page) < 1000 {
					break
				}
			}
			for id := range recorded {
				if kept[id] != 1 {
					return false
				}
			}
			return true
		}, 30*time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := last.Close(); err != nil {
			t.Error(err)
		}
		if len(recorded) < 6*20 {
			t.Errorf("%d were recorded", len(recorded))
		}
	})
}
