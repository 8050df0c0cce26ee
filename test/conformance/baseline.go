package conformance

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed baseline.txt
var baselineText string

// Baseline names the scenarios that may fail, each with its reason.
type Baseline map[string]string

// KnownFailures is the baseline kept in baseline.txt: what may fail everywhere, and what may with
// certain kinds of upstreams.
func KnownFailures(upstreams ...string) (Baseline, error) {
	return parseBaseline(baselineText, upstreams...)
}

// parseBaseline reads lines of the form "scenario  # reason", under headings "[upstream]" for those that hold with one
// kind of upstream only. Empty lines and lines of comment are passed over; a scenario without a reason is an error.
func parseBaseline(text string, upstreams ...string) (Baseline, error) {
	b := Baseline{}
	heading := ""
	for i, line := range strings.Split(text, "\n") {
		scenario, reason, _ := strings.Cut(line, "#")
		scenario, reason = strings.TrimSpace(scenario), strings.TrimSpace(reason)
		if inner, ok := strings.CutPrefix(scenario, "["); ok {
			heading = strings.TrimSuffix(inner, "]")
			continue
		}
		if scenario == "" {
			continue
		}
		if reason == "" || strings.ContainsAny(scenario, " \t") {
			return nil, fmt.Errorf("baseline line %d: want \"scenario  # reason\", got %q", i+1, line)
		}
		if heading == "" || slices.Contains(upstreams, heading) {
			b[scenario] = reason
		}
	}
	return b, nil
}

// Mark notes in each result which scenarios are known to fail.
func (b Baseline) Mark(results []Result) {
	for _, r := range results {
		for i := range r.Scenarios {
			r.Scenarios[i].Known = b[r.Scenarios[i].Name]
		}
	}
}

// Stale are the baseline's scenarios that ran and did not fail: their lines should go.
func (b Baseline) Stale(results []Result) []string {
	failed := map[string]bool{} // by each scenario that ran and checked something
	for _, r := range results {
		for _, s := range r.Scenarios {
			if s.Passed+s.Failed > 0 {
				failed[s.Name] = failed[s.Name] || s.Failed > 0
			}
		}
	}
	var stale []string
	for scenario := range b {
		if has, ran := failed[scenario]; ran && !has {
			stale = append(stale, scenario)
		}
	}
	slices.Sort(stale)
	return stale
}
