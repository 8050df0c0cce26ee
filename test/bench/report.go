package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// PerSecond is how many calls were answered rightly in a second.
func (m Measurement) PerSecond() float64 { return float64(len(m.Took)) / m.Elapsed.Seconds() }

// Quantile is the time within which a part q of the calls was answered.
func (m Measurement) Quantile(q float64) time.Duration {
	if len(m.Took) == 0 {
		return 0
	}
	return m.Took[min(int(q*float64(len(m.Took))), len(m.Took)-1)]
}

// CPUPerCall is the time that the watched processes ran for one call.
func (m Measurement) CPUPerCall() time.Duration {
	if len(m.Took) == 0 {
		return 0
	}
	return m.CPU / time.Duration(len(m.Took))
}

// MallocsPerCall is how many objects the watched processes allocated for one call.
func (m Measurement) MallocsPerCall() float64 { return m.Mallocs / float64(max(1, len(m.Took))) }

// Failed tells whether any call of any measurement went wrong.
func Failed(all []Measurement) bool {
	for _, m := range all {
		if m.Errors.total() > 0 {
			return true
		}
	}
	return false
}

// Markdown is a report: where and how it was measured, a table, and every kind of error. CPU is compared with the
// target named yardstick.
func Markdown(all []Measurement, yardstick, command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s, %d cores, %s, with `%s`.\n\n", processor(), runtime.NumCPU(), runtime.Version(), command)
	fmt.Fprintf(&b, "| call | clients | through | calls/s | p50 µs | p99 µs | CPU µs per call | CPU / %s | allocations per call | errors |\n", yardstick)
	b.WriteString("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, m := range all {
		ratio := "-"
		if base := find(all, m, yardstick); base != nil && base.CPUPerCall() > 0 {
			ratio = fmt.Sprintf("%.2f", float64(m.CPUPerCall())/float64(base.CPUPerCall()))
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %.0f | %s | %s | %s | %s | %.0f | %d |\n", m.Case, m.Clients, m.Target, m.PerSecond(),
			micros(m.Quantile(0.5)), micros(m.Quantile(0.99)), micros(m.CPUPerCall()), ratio, m.MallocsPerCall(), m.Errors.total())
	}
	for _, m := range all {
		for _, line := range m.Errors.lines() {
			fmt.Fprintf(&b, "\nErrors of %s, %d clients, through %s: %s\n", m.Case, m.Clients, m.Target, strings.Join(strings.Fields(line), " "))
		}
	}
	return b.String()
}

func find(all []Measurement, like Measurement, target string) *Measurement {
	for i := range all {
		if all[i].Case == like.Case && all[i].Clients == like.Clients && all[i].Target == target {
			return &all[i]
		}
	}
	return nil
}

func micros(d time.Duration) string {
	us := float64(d) / float64(time.Microsecond)
	if us < 100 {
		return fmt.Sprintf("%.1f", us)
	}
	return fmt.Sprintf("%.0f", us)
}

// processor is the processor's name as Linux tells it.
func processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "an unknown processor"
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unknown processor"
}

// Replace puts a report between the markers of a part of a document: <!-- part: begin --> and <!-- part: end -->.
func Replace(file, part, report string) error {
	beginMarker, endMarker := "<!-- "+part+": begin -->", "<!-- "+part+": end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), beginMarker)
	_, after, ended := strings.Cut(rest, endMarker)
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the report: put %s and %s where it belongs", file, beginMarker, endMarker)
	}
	return os.WriteFile(file, []byte(before+beginMarker+"\n"+report+endMarker+after), 0o644)
}
